"""What the gateway config should be, seen beside what is live.

The live config says who has which name, what was accepted last of a model that is faulty now, and how much a new one
would drop. It is read back once, when the process starts, and is known from what is written after that.
"""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.hold import Hold, decide_hold, vanished, with_hold
from capstan_operator.desired.live import LiveConfig, reserved_by_status
from capstan_operator.desired.members import find_dependents
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.types import CompiledGateway
from capstan_operator.errors import Retryable
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.errors import NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.model_list import AllModels
from capstan_operator.metrics import Metrics
from capstan_operator.names import RELEASE_ANNOTATION
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import CONFIG_HELD, Problem

log = logging.getLogger(__name__)

MOST_LOOKUPS: Final = 8
"""So many of the models that a list does not have are asked for before it is believed."""

GROWTH: Final = 1.25
"""After how much more models the garbage collector is told again what lives long."""

Tell = Callable[[Literal["Normal", "Warning"], str, str], None]
"""Writes an Event about the installation: type, reason, note."""


@dataclass(frozen=True)
class Proposal:
    """A compiled config, and whether it is held back."""

    compiled: CompiledGateway
    dependents: Mapping[ObjectKey, frozenset[ObjectKey]]
    """The virtual models that name each model."""
    hold: Hold | None = None

    @property
    def problem(self) -> Problem | None:
        """Why it is not to be written."""
        if self.hold is None:
            return None
        return Problem(
            CONFIG_HELD,
            "the newest gateway config is held back, because it would drop many models that nobody has changed",
        )


class Proposer:
    """Compiles again and again; one call at a time."""

    def __init__(
        self, kube: KubePort, writer: ConfigWriter, settings: Settings, *, metrics: Metrics, tell: Tell
    ) -> None:
        self._kube = kube
        self._writer = writer
        self._settings = settings
        self._rules = NameRules.from_settings(settings)
        self._metrics = metrics
        self._tell = tell
        self._compiler = Compiler()
        # NB: a run that was cancelled at its deadline leaves its thread behind.
        self._compiling = threading.Lock()
        self._is_loaded = False
        self._live = LiveConfig()
        self._told = ""
        self._frozen = 0

    async def propose(self, listed: AllModels) -> Proposal:
        """Compile what was listed. Raises Retryable when it cannot be told what is live, or gone."""
        live = await self._look(listed)
        await self._doubt(live, listed)
        proposal = await asyncio.to_thread(self._compile, listed, live)
        compiled, hold = proposal.compiled, proposal.hold
        if hold is not None:
            await self._writer.look()
            hold = None if self._released == hold.token else hold
        self._metrics.config_held.set(len(hold.dropped) if hold else 0)
        self._tell_hold(hold)
        if hold is None:
            # Names of models without an entry are nowhere else.
            self._live = replace(live, reserved=compiled.reserved)
            return replace(proposal, hold=None)
        verdicts = with_hold(compiled, hold, self._settings.gateway_config_name)
        return replace(proposal, compiled=replace(compiled, verdicts=verdicts))

    def _compile(self, listed: AllModels, live: LiveConfig) -> Proposal:
        with self._compiling, self._calm(len(listed.models)):
            compiled = self._compiler.compile(listed.models, live=live, rules=self._rules, unread=listed.unknown)
            hold = decide_hold(live, listed.models, compiled, percent=self._settings.max_dropped_percent)
            return Proposal(compiled, find_dependents(listed.models), hold)

    @contextmanager
    def _calm(self, models: int) -> Iterator[None]:
        """Let no collection of garbage stop the loop for the third of a second that it takes with 5,000 models.

        What a compile makes has no cycles, and what it keeps lives long: as often as the number of models has grown,
        the collector is told to look at it no more.
        """
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            if models > self._frozen * GROWTH:
                self._frozen = models
                gc.freeze()

    async def _look(self, listed: AllModels) -> LiveConfig:
        if not self._is_loaded:
            await self._writer.load()
            self._is_loaded = True
            self._live = LiveConfig(reserved=reserved_by_status(listed.models))
            if self._writer.written is None and self._writer.index is not None:
                text = "the live gateway config cannot be read: names go by age, and no faulty model keeps its entry"
                log.warning(text)
                self._tell("Warning", "ConfigUnreadable", text)
        written = self._writer.written
        if written is None:
            if listed.unknown and self._writer.index is not None:
                raise Retryable(f"namespaces were never read: {', '.join(sorted(listed.unknown))}")
            return LiveConfig(reserved=self._live.reserved)
        return LiveConfig.of(written, self._live.reserved)

    async def _doubt(self, live: LiveConfig, listed: AllModels) -> None:
        """Do not believe that many models are gone before some of them were asked for by name."""
        gone = vanished(live, listed.models, percent=self._settings.max_dropped_percent)
        missing = [key for key in gone if key.namespace not in listed.unreadable]
        step = max(len(missing) // MOST_LOOKUPS, 1)
        found = await asyncio.gather(*(self._exists(key) for key in missing[::step][:MOST_LOOKUPS]))
        if any(found):
            raise Retryable("the list of LLMModels does not have some that are there")

    async def _exists(self, key: ObjectKey) -> bool:
        try:
            await self._kube.get(LLM_MODELS, key.name, namespace=key.namespace)
        except NotFound:
            return False
        return True

    @property
    def _released(self) -> str | None:
        """What a person has said on the config's ConfigMap."""
        metadata = (self._writer.index or {}).get("metadata") or {}
        value = (metadata.get("annotations") or {}).get(RELEASE_ANNOTATION)
        return value if isinstance(value, str) else None

    def _tell_hold(self, hold: Hold | None) -> None:
        token = hold.token if hold else ""
        if token == self._told:
            return
        self._told = token
        if hold is None:
            log.info("the gateway config is no longer held back")
            self._tell("Normal", "ConfigReleased", "the gateway config is no longer held back")
            return
        text = (
            f"the newest gateway config would drop {len(hold.dropped)} models although nobody has changed them"
            f" ({_some(hold.dropped)}), and is held back; if that is meant, set the annotation"
            f" {RELEASE_ANNOTATION}={token} on this ConfigMap"
        )
        log.error("held the gateway config back", extra={"count": len(hold.dropped), "models": _some(hold.dropped)})
        self._tell("Warning", CONFIG_HELD, text)


def _some(keys: Sequence[ObjectKey], most: int = 5) -> str:
    more = ["..."] if len(keys) > most else []
    return ", ".join([*map(str, keys[:most]), *more])
