"""Namespaces that cannot be read: what is the matter with each, since when, and who is told.

A LIST that is forbidden does not say whether the namespace went, with the Role in it, or only the Role. A namespace can
be asked for by name, if that is allowed: when there is none, its models are let go of after a grace. Otherwise they
stay, until the namespace can be read again or is taken out of CAPSTAN_WATCH_NAMESPACES.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from time import monotonic
from typing import Final

from capstan_operator.kube.errors import Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import NAMESPACES

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 300.0


class Standing(StrEnum):
    """What is known of a namespace that is worked in."""

    READABLE = "Readable"
    UNREADABLE = "Unreadable"
    """What was last known of it stays."""
    MISSING = "Missing"
    """It does not exist; what was last known of it stays for a grace, as somebody may be making it anew."""
    GONE = "Gone"
    """It has not existed for longer than the grace: nothing of it is left."""


@dataclass
class _Trouble:
    error: KubeError
    standing: Standing
    missing_since: float | None = None


class NamespaceWatch:
    """Keeps what the last list has said of each namespace. `on_change` is told of every change of one."""

    def __init__(
        self,
        kube: KubePort,
        *,
        grace: float = GRACE_SECONDS,
        on_change: Callable[[str, Standing, str], None] = lambda _name, _standing, _why: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._kube = kube
        self._grace = grace
        self._on_change = on_change
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}

    @property
    def unreadable(self) -> int:
        """How many namespaces could not be read last time; one that is gone is among them while it is to be watched."""
        return len(self._troubles)

    def problem(self, namespace: str) -> KubeError | None:
        """Why a namespace could not be read last time; None as well for one that is gone."""
        trouble = self._troubles.get(namespace)
        return trouble.error if trouble and trouble.standing is not Standing.GONE else None

    def is_gone(self, namespace: str) -> bool:
        """Whether a namespace has not existed for longer than the grace."""
        trouble = self._troubles.get(namespace)
        return trouble is not None and trouble.standing is Standing.GONE

    async def update(self, names: Iterable[str], errors: Mapping[str, KubeError]) -> dict[str, Standing]:
        """Take in what a list of each namespace has answered; give what follows for each."""
        missing = dict(zip(errors, await asyncio.gather(*(self._is_missing(name) for name in errors)), strict=True))
        standings = {}
        for name in names:
            before = self._troubles.get(name)
            trouble = self._judge(before, errors[name], missing[name]) if name in errors else None
            if trouble is None:
                self._troubles.pop(name, None)
            else:
                self._troubles[name] = trouble
            standings[name] = trouble.standing if trouble else Standing.READABLE
            if standings[name] is not (before.standing if before else Standing.READABLE):
                self._tell(name, standings[name], str(trouble.error) if trouble else "")
        return standings

    def _judge(self, before: _Trouble | None, error: KubeError, missing: bool | None) -> _Trouble:
        if missing is None and before:
            return replace(before, error=error)  # what was known counts, and since when it does
        if not missing:
            return _Trouble(error, Standing.UNREADABLE)
        since = before.missing_since if before and before.missing_since is not None else self._clock()
        is_gone = self._clock() - since >= self._grace
        return _Trouble(error, Standing.GONE if is_gone else Standing.MISSING, since)

    async def _is_missing(self, name: str) -> bool | None:
        """Whether a namespace does not exist; None when that cannot be told."""
        try:
            await self._kube.get(NAMESPACES, name)
        except NotFound:
            return True
        except Forbidden:
            return None
        except KubeError as error:
            log.debug("could not look at a namespace", extra={"namespace": name, "error": str(error)})
            return None
        return False

    def _tell(self, name: str, standing: Standing, why: str) -> None:
        if standing is Standing.READABLE:
            log.info("a namespace can be read again", extra={"namespace": name})
        else:
            log.warning(
                "a namespace cannot be read",
                extra={"namespace": name, "standing": str(standing), "error": why},
            )
        self._on_change(name, standing, why)


def describe_standing(name: str, standing: Standing, why: str) -> str:
    """Say in one sentence, for people, what is the matter with a namespace."""
    match standing:
        case Standing.READABLE:
            return f"the namespace '{name}' can be read again"
        case Standing.UNREADABLE:
            return f"the namespace '{name}' cannot be read; what was last known of its LLMModels stays: {why}"
        case Standing.MISSING:
            return f"the namespace '{name}' does not exist; what was last known of its LLMModels stays for a while"
        case Standing.GONE:
            return f"the namespace '{name}' does not exist any more; its LLMModels are let go of"
