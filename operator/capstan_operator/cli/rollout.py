"""`capstan rollout`: how the rollout of a model in a cluster stands, and what a person wants of it."""

import argparse
import asyncio
import functools
import getpass
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.api.rollout import GateEvidence, RolloutStatus
from capstan_operator.cli.tables import as_table, printable
from capstan_operator.desired.rollouts.machine import ABORT, PROMOTE, RETRY
from capstan_operator.desired.rollouts.memory import State, read_memory, unix_seconds, write_memory
from capstan_operator.errors import OperatorError
from capstan_operator.names import ROLLOUT_ACTION_ANNOTATION, ROLLOUT_BY_ANNOTATION, ROLLOUT_MANAGER
from capstan_operator.resources.resource import Manifest

STATUS: Final = "status"
ACTIONS: Final[Mapping[str, str]] = {
    STATUS: "say where a rollout is, and what its gates have said",
    PROMOTE: "go on with all pods, whatever the gates say",
    ABORT: "give the revision up that is tried",
    RETRY: "try the revision again, from the beginning",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("model", metavar="MODEL", help="name of the LLMModel")
        action.add_argument("-n", "--namespace", default=DEFAULT_NAMESPACE, help="of it (default: %(default)s)")
        action.add_argument("--context", help="context of the kubeconfig (default: its current one)")
        if name == STATUS:
            action.add_argument("-o", "--output", choices=["table", "json"], default="table", help="form")
    parser.epilog = "Exit codes: 0 done; 1 there is no such model or rollout, or the cluster refuses."


def run(arguments: argparse.Namespace) -> int:
    """Say it, or write what is wanted into the annotation that the operator follows."""
    try:
        return asyncio.run(_run(arguments))
    except ModuleNotFoundError as error:
        print(f"error: to reach a cluster needs {error.name}: pip install '.[operator]' in a clone", file=sys.stderr)
    except (OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


async def _run(arguments: argparse.Namespace) -> int:
    # NB: `capstan --help` needs no client of Kubernetes.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    load = functools.partial(load_configuration, arguments.context)
    kube = KubeClient(await load(), reload=load, user_agent="capstan-cli")
    try:
        model = await kube.get(LLM_MODELS, arguments.model, namespace=arguments.namespace)
        memory = read_memory(model.get("status") or {})
        if memory is None:
            raise ValueError(f"the LLMModel '{arguments.model}' has no rollout in steps (`spec.rollout.steps`)")
        if arguments.action == STATUS:
            print(as_json(memory) if arguments.output == "json" else as_text(memory), end="")
            return 0
        text = action_text(memory, arguments.action)
        await kube.apply(build_wish(model, text, by=_who()), manager=ROLLOUT_MANAGER)
        print(f"asked for: {text}", file=sys.stderr)
        return 0
    finally:
        await kube.close()


def action_text(memory: RolloutStatus, verb: str) -> str:
    """Give what the annotation is to say. Raises ValueError when there is nothing to be done.

    It names the try: said twice, it is one wish, and of another try of the same revision, be it after another failure
    or months later, another one.
    """
    if memory.candidate is None or memory.state == State.COMPLETE:
        raise ValueError("no revision is tried, and none is rejected that the spec asks for")
    if verb == PROMOTE and memory.state == State.PROMOTING:
        raise ValueError(f"the revision {memory.candidate} is being promoted already")
    if verb == ABORT and memory.state == State.ROLLED_BACK:
        raise ValueError(f"the revision {memory.candidate} is rolled back already")
    return f"{verb}={memory.candidate}/{unix_seconds(memory.began)}"


def build_wish(model: Manifest, text: str, *, by: str) -> Manifest:
    """Give what is applied: two annotations of exactly this object, and nothing else."""
    metadata = {key: model["metadata"][key] for key in ("name", "namespace", "uid")}
    annotations = {ROLLOUT_ACTION_ANNOTATION: text, ROLLOUT_BY_ANNOTATION: by}
    return {
        "apiVersion": API_VERSION,
        "kind": LLM_MODELS.kind,
        "metadata": {**metadata, "annotations": annotations},
    }


def as_json(memory: RolloutStatus) -> str:
    """Write it as the status has it."""
    return json.dumps(write_memory(memory), indent=2) + "\n"


def as_text(memory: RolloutStatus) -> str:
    """Write it for people."""
    facts: dict[str, Any] = {
        "state": f"{memory.state}{f' ({memory.reason})' if memory.reason else ''}",
        "since": memory.since,
        "stable": memory.stable,
        "candidate": memory.candidate,
        "attempt": memory.attempt,
        "step": memory.step,
        "weight": None if memory.weight is None else f"{memory.weight} %",
        "requests": memory.requests,
        "why": memory.message,
        "asked for": memory.action and f"{memory.action.action} by {memory.action.by or '?'} at {memory.action.at}",
    }
    said = [(name, printable(str(value))) for name, value in facts.items() if value is not None]
    text = as_table(said, left=2)
    if memory.gates:
        text += "\n" + as_table([("GATE", "OUTCOME", "STABLE", "CANDIDATE", "DIFFERENCE", "INTERVAL", "LIMIT", "OF"),
                                 *map(_row, memory.gates)], left=2)  # fmt: skip
    if memory.rejected:
        rejected = [(one.revision, one.reason, one.at) for one in memory.rejected]
        text += "\n" + as_table([("REJECTED", "REASON", "AT"), *rejected], left=3)
    return text


def _row(one: GateEvidence) -> tuple[str, ...]:
    interval = f"[{one.low}, {one.high}]" if one.low is not None else ""
    count = "" if one.count is None else str(one.count)
    cells = (one.stable, one.candidate, one.difference, interval, one.limit, count)
    return printable(one.name), one.outcome, *(cell or "" for cell in cells)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
