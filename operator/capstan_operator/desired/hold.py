"""The brake: entries that go, many at once, of models that nobody has changed, are held.

What one change of a person does to one model is right whatever it is. What takes many models away at once without any
of them having changed comes from elsewhere: a setting, a release of the operator, a list that is not whole. Their
entries stay as they are, with their names and their credentials, until the cause is gone, or a person says that it is
meant. Everything else of the config goes on: nobody waits for another one's hold.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from capstan_contract.config import referenced_models
from capstan_operator.api.kinds import Model
from capstan_operator.desired.candidates import UNREAD
from capstan_operator.desired.live import LiveConfig, key_of
from capstan_operator.desired.types import CompiledGateway, Verdict
from capstan_operator.names import RELEASE_ANNOTATION
from capstan_operator.resources.resource import ObjectKey

A_FEW: Final = 2
"""So many may always go: a share of next to nothing says nothing."""

Seen = Mapping[ObjectKey, tuple[str, int]]
"""Which object (uid) of which generation the operator saw when it compiled the config that is written."""
NOTHING_SEEN: Final[Seen] = MappingProxyType({})


@dataclass(frozen=True)
class Hold:
    """The models whose entries are held."""

    dropped: tuple[ObjectKey, ...]
    """Sorted. A config without the hold would drop them."""

    @property
    def token(self) -> str:
        """What a person says to let exactly these be dropped: it stays the same while other models change."""
        text = "\n".join(str(key) for key in self.dropped)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def message(self, config_name: str) -> str:
        """Say it for people: the same for the same models."""
        return (
            "the newest gateway config would drop this model, and others, although nobody has changed them: what the"
            " gateway has of them stays as it is; if that is meant, annotate the ConfigMap"
            f" '{config_name}' with {RELEASE_ANNOTATION}={self.token}"
        )

    def verdicts(self, compiled: CompiledGateway, config_name: str) -> Mapping[ObjectKey, Verdict]:
        """Give what is to be said of those that are held, when this is what was compiled without the hold."""
        message = self.message(config_name)
        return {key: replace(compiled.verdicts[key], held=message) for key in self.dropped}


def decide_hold(
    live: LiveConfig,
    models: Iterable[Model],
    compiled: CompiledGateway,
    *,
    percent: int,
    seen: Seen = NOTHING_SEEN,
    held: Collection[ObjectKey] = (),
) -> Hold | None:
    """Say which of the live entries that a compiled config drops are to be held; None when there are none.

    `percent` is the share of the live entries that may go at once; 100: all. What is `held` already is held until its
    cause is gone, however many entries there are by then. Of models that are not `seen` their status says what was.
    """
    known = {model.key: model for model in models}
    served = {entry.id for entry in compiled.config.models}
    gone = {key_of(id_) for id_ in live.entries.keys() - served}
    unmoved = {key for key in gone & compiled.verdicts.keys() if _is_unmoved(key, known.get(key), compiled, seen)}
    dropped = _without_cause(unmoved, live, compiled)
    if percent >= 100:
        return None
    if len(dropped) <= A_FEW or len(dropped) * 100 <= percent * len(live.entries):
        dropped &= set(held)
    return Hold(tuple(sorted(dropped))) if dropped else None


def _is_unmoved(key: ObjectKey, model: Model | None, compiled: CompiledGateway, seen: Seen) -> bool:
    """Whether nobody has done anything to a model since the operator compiled what is live."""
    if model is None:
        return compiled.verdicts[key].reason == UNREAD
    if model.deleting:
        return False
    if key in seen:
        return seen[key] == (model.uid, model.generation)
    return model.status.get("observedGeneration") == model.generation


def _without_cause(unmoved: set[ObjectKey], live: LiveConfig, compiled: CompiledGateway) -> set[ObjectKey]:
    """Leave out the virtual models whose members a person has taken away: only those members were meant to go."""
    members = {
        key: [key_of(one) for one in referenced_models(live.entries[str(key)].backend)]
        for key in unmoved & set(compiled.reserved.values())
    }
    dropped, virtual = unmoved - members.keys(), set(members)
    while more := {key for key in virtual if not dropped.isdisjoint(members[key])}:
        dropped |= more
        virtual -= more
    return dropped


def vanished(live: LiveConfig, models: Iterable[Model], *, percent: int) -> tuple[ObjectKey, ...]:
    """Give the models of live entries that a listing does not have, when they are so many that somebody should look
    whether they are gone; none when they are not."""
    known = {str(model.key) for model in models}
    missing = sorted(key_of(id_) for id_ in live.entries.keys() - known)
    if len(missing) <= A_FEW or len(missing) * 100 <= percent * len(live.entries):
        return ()
    return tuple(missing)
