"""What each LLMModel would have in the gateway config if it were alone: judged without looking at any other."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from capstan_contract.config import Backend, CascadeBackend, ModelEntry, RouterBackend, StaticBackend
from capstan_contract.names import MAX_ENTRY_BYTES
from capstan_operator.api.kinds import Model
from capstan_operator.desired.claims import Claimant
from capstan_operator.desired.entries import build_entry
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.live import LiveConfig, key_of
from capstan_operator.desired.name_rules import NameRules, name_fields
from capstan_operator.desired.types import LostName, Verdict
from capstan_operator.resources.resource import Fault, ObjectKey

INVALID = "Invalid"
ACCEPTED = Verdict(accepted=True, reason="Accepted", message="served by the gateway's config")
DELETING = Verdict(accepted=False, reason="Deleting", message="the LLMModel is being deleted")
NOWHERE = StaticBackend(urls=())
"""In the draft of a virtual model: which members it has depends on others."""


@dataclass(frozen=True)
class Candidate:
    """One model, and the entry that it would have with all its names."""

    model: Model
    verdict: Verdict
    draft: ModelEntry | None = None
    """None: it has no place in the config, and claims nothing."""
    lost_names: tuple[LostName, ...] = ()
    """Names that nobody in its namespace can have."""

    @property
    def key(self) -> ObjectKey:
        """Of the model."""
        return self.model.key

    @property
    def is_kept(self) -> bool:
        """Whether the draft is what was accepted last, not what the model says now."""
        return self.verdict.kept

    @property
    def is_virtual(self) -> bool:
        """Whether other models answer."""
        if self.is_kept and self.draft:
            return isinstance(self.draft.backend, RouterBackend | CascadeBackend)
        return self.model.spec is not None and self.model.spec.is_virtual

    def claimant(self) -> Claimant | None:
        """Give what it wants of the names that only one model can have."""
        if self.draft is None:
            return None
        lost = {one.name for one in self.lost_names}
        others = tuple(name for _, name in name_fields(self.draft) if name not in lost)
        return Claimant(self.key, self.model.created, (self.draft.servedName,), others)


@dataclass
class Drafts:
    """Remembers the drafts of a compile for the next one: what has not changed is the same object again."""

    known: dict[ObjectKey, tuple[Model, Backend, ModelEntry]] = field(default_factory=dict)

    def draft(self, model: Model, backend: Backend) -> ModelEntry:
        """Give the entry of a model with all its names. Raises ValidationError."""
        known = self.known.get(model.key)
        if known and _is_same(known[0], model) and known[1] == backend:
            return known[2]
        if model.spec is None:
            raise ValueError(f"the LLMModel '{model.key}' has no spec")
        entry = build_entry(model, model.spec, backend)
        self.known[model.key] = model, backend, entry
        return entry

    def keep_only(self, keys: Iterable[ObjectKey]) -> None:
        """Forget every other model."""
        kept = set(keys)
        for key in [key for key in self.known if key not in kept]:
            del self.known[key]


def _is_same(one: Model, other: Model) -> bool:
    """Whether the entries of two models are the same: a parser gives each generation of an object one spec."""
    return one.spec is other.spec and (one.uid, one.generation, one.created) == (
        other.uid,
        other.generation,
        other.created,
    )


def judge_alone(
    model: Model, *, live: LiveConfig, rules: NameRules, drafts: Drafts, backend_of: Callable[[Model], Backend]
) -> Candidate:
    """Judge one model by itself. The first objection counts."""
    if model.deleting:
        return Candidate(model, DELETING)
    if faults := find_faults(model):
        return _faulty(model, faults, live)
    virtual = model.spec is not None and model.spec.is_virtual
    try:
        draft = drafts.draft(model, NOWHERE if virtual else backend_of(model))
    except ValidationError as fault:
        # What the contract refuses must cost this model only, whatever the rules of its manifest let through.
        return _faulty(model, [_refusal(fault)], live)
    if len(draft.text) > MAX_ENTRY_BYTES:
        # It must not be the config that does not fit.
        return _faulty(model, [Fault("spec", f"takes more than {MAX_ENTRY_BYTES} bytes of a gateway's config")], live)
    if objection := rules.objection(model.key.namespace, draft.servedName):
        return Candidate(model, Verdict(accepted=False, reason=objection[0], message=objection[1]))
    objections = [(path, name, rules.objection(model.key.namespace, name)) for path, name in name_fields(draft)]
    lost = tuple(LostName(path, name, found[0], found[1]) for path, name, found in objections if found)
    return Candidate(model, ACCEPTED, draft, lost)


def _faulty(model: Model, faults: Iterable[Fault], live: LiveConfig) -> Candidate:
    """A faulty edit takes a running model out of nothing: what was accepted last stays, if it was of this object."""
    verdict = invalid(faults)
    last = live.entries.get(str(model.key))
    if last is None or not _was_of(last, model):
        return Candidate(model, verdict)
    return _kept(model, verdict, last)


def unread_candidates(live: LiveConfig, namespaces: frozenset[str]) -> Iterator[Candidate]:
    """Give what is live of namespaces that could never be read, to stay as it is."""
    for id_, last in live.entries.items():
        key = key_of(id_)
        if key.namespace in namespaces:
            model = Model(key=key, uid=last.uid, generation=0, created="", spec=None)
            yield _kept(model, Verdict(accepted=False, reason="Unread", message="its namespace cannot be read"), last)


def _kept(model: Model, verdict: Verdict, last: ModelEntry) -> Candidate:
    if (last.uid, last.generation) != (model.uid, 0):
        # An older release has written it: from now on it says whose it is.
        last = last.model_copy(update={"uid": model.uid, "generation": 0})
    return Candidate(model, replace(verdict, kept=True, kept_backend=str(last.backend.kind)), last)


def _was_of(entry: ModelEntry, model: Model) -> bool:
    """Whether an entry was compiled from this very object. Entries of older releases do not say: its status does."""
    return entry.uid == model.uid if entry.uid else _was_accepted(model.status)


def _was_accepted(status: Mapping[str, object]) -> bool:
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list | tuple) else ()
    return any(one.get("type") == "Accepted" and one.get("status") == "True" for one in found if isinstance(one, dict))


def invalid(faults: Iterable[Fault]) -> Verdict:
    """Give the verdict on a faulty model: every fault, so that one look is enough to put them all right."""
    return Verdict(accepted=False, reason=INVALID, message="; ".join(str(fault) for fault in faults))


def _refusal(fault: ValidationError) -> Fault:
    first = fault.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return Fault("spec", f"cannot be served by a gateway: {where}: {first['msg']}")
