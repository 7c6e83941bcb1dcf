"""The brake: a config that would drop many models that nobody has changed is held back.

What one change of a person does to one model is right whatever it is. What takes many models away at once without any
of them having changed comes from elsewhere: a setting, a release of the operator, a list that is not whole. The
gateways go on with the config that they have until the cause is gone, or a person says that it is meant.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.desired.live import LiveConfig, key_of
from capstan_operator.desired.members import MEMBERS_MISSING
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.names import RELEASE_ANNOTATION
from capstan_operator.resources.resource import ObjectKey

A_FEW: Final = 2
"""So many may always go: a share of next to nothing says nothing."""


@dataclass(frozen=True)
class Hold:
    """What a config that is held back would drop."""

    dropped: tuple[ObjectKey, ...]

    @property
    def token(self) -> str:
        """What a person says to let exactly these be dropped: it stays the same while other models change."""
        text = "\n".join(str(key) for key in self.dropped)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def message(self, config_name: str) -> str:
        """Say it for people: the same for the same models."""
        return (
            "the newest gateway config would drop this model, and others, although nobody has changed them, and is held"
            f" back; if that is meant, annotate the ConfigMap '{config_name}' with {RELEASE_ANNOTATION}={self.token}"
        )


def decide_hold(
    live: LiveConfig, models: Iterable[Model], compiled: CompiledGateway, *, percent: int, released: str | None = None
) -> Hold | None:
    """Say whether a compiled config is to be held back, and what it would drop; None to write it.

    `percent` is the share of the live entries that may go at once, `released` what a person has said.
    """
    known = {model.key: model for model in models}
    served = {entry.id for entry in compiled.config.models}
    gone = {key_of(id_) for id_ in live.entries.keys() - served}
    unmoved = {key for key in gone if key in known and _is_unmoved(known[key])}
    hold = Hold(tuple(sorted(_without_cause(unmoved, compiled.verdicts))))
    if len(hold.dropped) <= A_FEW or len(hold.dropped) * 100 <= percent * len(live.entries):
        return None
    return None if released == hold.token else hold


def _is_unmoved(model: Model) -> bool:
    """Whether nobody has done anything to a model since the operator last dealt with it."""
    return not model.deleting and model.status.get("observedGeneration") == model.generation


def _without_cause(unmoved: set[ObjectKey], verdicts: Mapping[ObjectKey, Verdict]) -> set[ObjectKey]:
    """Leave out the virtual models whose members a person has taken away: only those members were meant to go."""
    dropped = {key for key in unmoved if verdicts[key].reason != MEMBERS_MISSING}
    virtual = unmoved - dropped
    while more := {key for key in virtual if any(one.key in dropped for one in verdicts[key].left_out)}:
        dropped |= more
        virtual -= more
    return dropped


def with_hold(compiled: CompiledGateway, hold: Hold, config_name: str) -> Mapping[ObjectKey, Verdict]:
    """Give the verdicts while a config is held back: what it would drop is served as before."""
    message = hold.message(config_name)
    held = {key: replace(compiled.verdicts[key], held=message) for key in hold.dropped}
    return {**compiled.verdicts, **held}


def vanished(live: LiveConfig, models: Iterable[Model], *, percent: int) -> tuple[ObjectKey, ...]:
    """Give the models of live entries that a listing does not have, when they are so many that somebody should look
    whether they are gone; none when they are not."""
    known = {str(model.key) for model in models}
    missing = sorted(key_of(id_) for id_ in live.entries.keys() - known)
    if len(missing) <= A_FEW or len(missing) * 100 <= percent * len(live.entries):
        return ()
    return tuple(missing)
