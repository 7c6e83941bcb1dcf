"""What the scorer says of the models of an experiment: of each as a whole, not of the experiment's requests alone."""

import argparse
import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from capstan_contract.evaluation import SCORES_PATH, TrackScores, read_scores
from capstan_contract.names import COMPONENT_LABEL
from capstan_operator.cli.admin_source import Question, by_url
from capstan_operator.cli.tables import printable
from capstan_operator.errors import OperatorError

SCOPE: Final = "of each model as a whole, over the scorer's window, and not of this experiment's requests alone"


@dataclass(frozen=True)
class Judged:
    """Scores of models, or why there are none."""

    models: Mapping[str, Sequence[TrackScores]] = field(default_factory=dict)
    why: str = ""

    def of(self, member: str) -> tuple[TrackScores, ...]:
        """Give what is known of a member: criteria of which an answer was scored."""
        return tuple(one for one in self.models.get(member, ()) if one.count)

    def cell(self, member: str) -> str:
        """Write it in a column."""
        scores = self.of(member)
        if len(scores) > 1:
            return "below"
        return f"{scores[0].mean:.3f} of {scores[0].count:,}" if scores else "-"


def ask_scores(arguments: argparse.Namespace) -> Judged:
    """Ask where --scores says, else the scorer of the cluster; no failure of that is one of the report."""
    try:
        page = _page(arguments)
        read = read_scores(page)
    except (OSError, ValueError, OperatorError) as error:
        return Judged(why=str(error))
    except ModuleNotFoundError as error:
        return Judged(why=f"to ask a cluster needs {error.name}")
    why = f"the scorer's page cannot be read for {', '.join(read.unreadable)}" if read.unreadable else ""
    return Judged(read.models, why)


def _page(arguments: argparse.Namespace) -> bytes:
    where = arguments.scores
    if where is not None and where.startswith(("http://", "https://")):
        told = by_url(where.rstrip("/").removesuffix(SCORES_PATH), Question(SCORES_PATH), "")
        if told.refused is not None:
            raise ValueError(f"the scorer answered {told.refused.status}")
        if told.silence:
            raise ValueError(told.silence)
        return told.body
    if where is not None:
        return Path(where).read_bytes()
    if arguments.url is not None or arguments.state_dir is not None:
        raise ValueError("no scorer was asked: say where its page is with --scores FILE or URL")
    return asyncio.run(_by_cluster(arguments))


async def _by_cluster(arguments: argparse.Namespace) -> bytes:
    # NB: imported only now: to ask an address needs nothing of a cluster's.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    load = functools.partial(load_configuration, arguments.context)
    kube = KubeClient(await load(), reload=load, user_agent="capstan-cli")
    try:
        return await through(kube, arguments.namespace)
    finally:
        await kube.close()


async def through(kube: Any, namespace: str) -> bytes:
    """Ask the scorer of a namespace by way of the API server; ValueError or OperatorError where none answers."""
    from capstan_operator.resources.api_resource import SERVICES

    found = await kube.list(SERVICES, namespace=namespace, label_selector=f"{COMPONENT_LABEL}=scorer")
    names = sorted(str(one["metadata"]["name"]) for one in found.items)
    if not names:
        raise ValueError(f"the namespace {namespace} has no scorer")
    # NB: the page needs no key, so that none is given away.
    status, body = await kube.ask_through(f"services/{names[0]}:metrics", SCORES_PATH, namespace=namespace, headers={})
    if status != 200:
        raise ValueError(f"the scorer {names[0]} answered {status}")
    return bytes(body)


def overlaps(one: TrackScores, other: TrackScores) -> bool:
    """Whether two intervals have a value in common."""
    return one.low <= other.high and other.low <= one.high


def lines_of(judged: Judged, members: Sequence[str], control: str) -> list[str]:
    """Write it for people."""
    lines = [f"judged: {printable(judged.why)}"] if judged.why else []
    known = {member: scores for member in members if (scores := judged.of(member))}
    if not known:
        return lines or ["judged: the scorer has scored no answer of these members"]
    lines.append(f"judged, {SCOPE} (95 % intervals, each by itself):")
    for member, scores in known.items():
        for one in scores:
            which = " ".join(filter(None, (one.criterion, one.track, one.revision)))
            text = f"{which}: {one.mean:.3f} ({one.low:.3f} to {one.high:.3f}) of {one.count:,}"
            beside = [] if member == control else _alike(one, known.get(control, ()))
            if len(beside) == 1:
                said = "overlaps" if overlaps(one, beside[0]) else "does not overlap"
                text = f"{text}; the interval {said} with that of {control}"
            lines.append(f"  {printable(member)}  {printable(text)}")
    return lines


def _alike(one: TrackScores, others: Sequence[TrackScores]) -> list[TrackScores]:
    return [other for other in others if (other.criterion, other.rubric) == (one.criterion, one.rubric)]


def judged_json(judged: Judged, members: Sequence[str]) -> dict[str, Any]:
    """Write it for programs."""
    return {
        "scope": SCOPE, "why": judged.why or None,
        "members": {
            member: [
                one.model_dump(
                    mode="json", include={"criterion", "rubric", "track", "revision", "count", "mean", "low", "high"}
                )
                for one in judged.of(member)
            ]
            for member in members
        },
    }  # fmt: skip
