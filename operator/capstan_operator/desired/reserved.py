"""What Capstan says to an engine itself, as tables: options and variables that a user's may not contradict.

One table per type of engine. An option that says what Capstan says anyway is let through, so that ordinary recipes
(`--host 0.0.0.0 --port 8000`) can be pasted as they are.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.config import Task
from capstan_contract.names import ENGINE_PORT, WORKER_PORT
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.engine import POOLING_TASKS, is_in_process, model_path
from capstan_operator.desired.volumes import WEIGHTS

Values = tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What the tables may ask about a model."""

    name: str
    spec: LLMModelSpec


@dataclass(frozen=True)
class Reserved:
    """Options that Capstan gives itself, or that would break what it relies on."""

    flags: tuple[str, ...]
    """All spellings; the first is the one that messages name. `--ssl-*` means every option that begins so."""
    why: str
    """Completes "must not set --x: ...": the reason, and what to use instead."""
    says_the_same: Callable[[Facts, Values], bool] = lambda _facts, _values: False
    """Whether these values are what Capstan says, or do not contradict it."""
    applies: Callable[[Facts], bool] = lambda _facts: True
    variables: tuple[str, ...] = ()
    """Environment variables that do the same."""


SWITCHES: Final = re.compile(r"--(no|enable|disable)-.|--(trust-remote-code|enforce-eager)$")


@dataclass(frozen=True)
class Table:
    """What is reserved for one type of engine."""

    entries: tuple[Reserved, ...]
    abbreviates: bool = True
    """Whether its parser takes `--served` for `--served-model-name`, as Python's argparse does."""
    switches: re.Pattern[str] = SWITCHES
    """Options that take no value; some older ones take true or false."""
    one_value: frozenset[str] = frozenset()
    """Options that are known to take exactly one value. Of others nothing is said: a parser knows them better."""
    is_parsed: bool = True
    """Whether the arguments are those of one known program: then a word without an option is a mistake."""


def only(*allowed: str) -> Callable[[Facts, Values], bool]:
    """Let only these values through."""
    return lambda _facts, values: bool(values) and all(value in allowed for value in values)


def is_name(facts: Facts, values: Values) -> bool:
    """The name that Capstan asks the engine for."""
    return values == (facts.name,)


def is_path(facts: Facts, values: Values) -> bool:
    """What `spec.model.source` becomes."""
    return values == (model_path(facts.spec),)


def is_revision(facts: Facts, values: Values) -> bool:
    """What `spec.model.revision` says."""
    return values == (facts.spec.model.revision,)


def has_revision(facts: Facts) -> bool:
    """Whether the manifest names a revision."""
    return facts.spec.model.revision is not None


def has_adapters(facts: Facts) -> bool:
    """Whether the manifest has adapters."""
    return bool(facts.spec.adapters)


def generates(facts: Facts) -> bool:
    """Whether the model writes text."""
    return facts.spec.model.task not in POOLING_TASKS


def in_process(facts: Facts) -> bool:
    """Whether the engine is in the worker's process."""
    return is_in_process(facts.spec)


def fits_task(allowed: Mapping[Task, tuple[str, ...]]) -> Callable[[Facts, Values], bool]:
    """Any value fits a task that is not named."""

    def fits(facts: Facts, values: Values) -> bool:
        known = allowed.get(facts.spec.model.task)
        return known is None or only("auto", *known)(facts, values)

    return fits


def _in_cache(_facts: Facts, values: Values) -> bool:
    return all(value == WEIGHTS or value.startswith(f"{WEIGHTS}/") for value in values)


def is_no_other_port(_facts: Facts, values: Values) -> bool:
    """Of `-p`, which is the port for some programs and something else for others: no number but ours."""
    return not (len(values) == 1 and values[0].isdigit() and values[0] != str(ENGINE_PORT))


def is_other_port(_facts: Facts, values: Values) -> bool:
    """None of the ports that Capstan uses."""
    return not any(value.strip() in (str(ENGINE_PORT), str(WORKER_PORT)) for value in values)


def is_reachable(_facts: Facts, values: Values) -> bool:
    """An address that others than the pod itself can reach."""
    return len(values) == 1 and not values[0].startswith(("127.", "localhost", "::1", "[::1"))


WHERE = f"the gateway, the worker and the probes reach the engine on port {ENGINE_PORT} of its pod"
NAME_WHY = "Capstan asks the engine for the model by `metadata.name`; the name for clients is `spec.model.servedName`"
KEY_WHY = "the gateway sends no key to an engine; clients show theirs to the gateway"
TLS_WHY = "the gateway, the worker and the probes speak plain HTTP to the engine"
ONE_POD = "a replica is one pod, and every pod of a model answers by itself"
ADAPTERS_WHY = "`spec.adapters` says which adapters there are"
SOURCE_WHY = "`spec.model.source` says where the weights are"
REVISION_WHY = "`spec.model.revision` says it"
OTHER_PORT = f"Capstan uses {ENGINE_PORT} and {WORKER_PORT}, and the value must be known to be another port"
PREFIX_WHY = "the gateway and the probes ask for paths without a prefix"
EVENTS_WHY = "`spec.engine.kvCache.events` says whether the engine tells which blocks it holds"
LEAVES = "the engine would end at once"

HOST = Reserved(("--host",), WHERE, only("0.0.0.0"))
PORT = Reserved(("--port", "-p"), WHERE, only(str(ENGINE_PORT)))
NAME = Reserved(("--served-model-name",), NAME_WHY, is_name)
KEY = Reserved(("--api-key",), KEY_WHY)
TLS = Reserved(("--ssl-*", "--enable-ssl-refresh"), TLS_WHY)
HELP = Reserved(("--help", "-h", "--version"), LEAVES)
REVISION = Reserved(("--revision",), REVISION_WHY, is_revision, has_revision)

_WEIGHTS_CACHE = Reserved(
    (),
    f"the claim of `spec.cache` is mounted at {WEIGHTS}, and weights that are kept elsewhere are lost with the pod",
    _in_cache,
    lambda facts: facts.spec.cache is not None,
    variables=("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"),
)
_WORKER = Reserved(
    (),
    "the operator says it to the worker in this container",
    applies=in_process,
    variables=(
        *(
            f"CAPSTAN_WORKER_{name}"
            for name in ("HOST", "PORT", "WORKER_PORT", "MODEL", "TASK", "PREFIXES", "GRACE_SECONDS", "KV_EVENTS")
        ),
    ),
)
MASTER_PORT = Reserved((), OTHER_PORT, is_other_port, variables=("MASTER_PORT",))
EVERYWHERE = (_WEIGHTS_CACHE, _WORKER)
