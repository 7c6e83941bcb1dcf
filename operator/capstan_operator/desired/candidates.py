"""What each LLMModel would have in the gateway config if it were alone: judged without looking at any other."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import ValidationError

from capstan_contract.config import Backend, CascadeBackend, ExternalBackend, ModelEntry, RouterBackend, StaticBackend
from capstan_contract.names import MAX_ENTRY_BYTES
from capstan_operator.api.kinds import Model
from capstan_operator.desired.claims import Claimant
from capstan_operator.desired.entries import build_entry, unix_seconds
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.live import LiveConfig, key_of
from capstan_operator.desired.name_rules import NameRules, name_fields
from capstan_operator.desired.prices import NO_PRICES, PriceTable
from capstan_operator.desired.queueing import InstalledQueue
from capstan_operator.desired.types import LostName, Verdict
from capstan_operator.resources.resource import Fault, ObjectKey
from capstan_operator.resources.sharing import Sharing

INVALID: Final = "Invalid"
UNREAD: Final = "Unread"
"""Of a model whose namespace could never be read."""
ACCEPTED = Verdict(accepted=True, reason="Accepted", message="served by the gateway's config")
DELETING = Verdict(accepted=False, reason="Deleting", message="the LLMModel is being deleted")
FROM_SPEC: Final = "Spec"
FROM_TABLE: Final = "Table"
UNKNOWN_PRICE: Final = "Unknown"
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
    reserved: tuple[str, ...] = ()
    """Names that it keeps although it has no place in the config."""

    @property
    def key(self) -> ObjectKey:
        """Of the model."""
        return self.model.key

    @property
    def stays(self) -> bool:
        """Whether the draft is the live entry, not what the model says now."""
        return self.verdict.stays

    @property
    def is_virtual(self) -> bool:
        """Whether other models answer."""
        if self.stays and self.draft:
            return isinstance(self.draft.backend, RouterBackend | CascadeBackend)
        return self.model.spec is not None and self.model.spec.is_virtual

    def claimant(self) -> Claimant | None:
        """Give what it wants of the names that only one model can have."""
        if self.draft is None:
            return Claimant(self.key, self.model.created, others=self.reserved) if self.reserved else None
        lost = {one.name for one in self.lost_names}
        others = tuple(name for _, name in name_fields(self.draft) if name not in lost)
        return Claimant(self.key, self.model.created, (self.draft.servedName,), others)


@dataclass
class Drafts:
    """Remembers the drafts of a compile for the next one: what has not changed is the same object again."""

    known: dict[ObjectKey, tuple[Model, Backend, ModelEntry]] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)
    prices: PriceTable = NO_PRICES
    """What hosted models cost that do not say it."""
    queue: InstalledQueue | None = None
    """The queue of the installation."""

    def price_by(self, prices: PriceTable) -> None:
        """Take another table: models that one of them prices are drafted anew."""
        if prices is not self.prices:
            self.prices = prices
            self.known = {key: one for key, one in self.known.items() if not isinstance(one[1], ExternalBackend)}

    def draft(self, model: Model, backend: Backend, *, auto: bool) -> ModelEntry:
        """Give the entry of a model with all its names. Raises ValidationError."""
        known = self.known.get(model.key)
        if known and _is_same(known[0], model) and (known[1], known[2].auto) == (backend, auto):
            return known[2]
        if model.spec is None:
            raise ValueError(f"the LLMModel '{model.key}' has no spec")
        entry = build_entry(model, model.spec, backend, queue=self.queue)
        if entry.price is None and (found := self.prices.find(backend, entry.upstreamName, entry.task)) is not None:
            entry = entry.model_copy(update={"price": found.price})
        entry = self.sharing.within(entry if auto else entry.model_copy(update={"auto": False}))
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
        return _faulty(model, faults, live, rules)
    virtual = model.spec is not None and model.spec.is_virtual
    auto = rules.may_be_auto(model.key.namespace)
    try:
        draft = drafts.draft(model, NOWHERE if virtual else backend_of(model), auto=auto)
    except ValidationError as fault:
        # What the contract refuses must cost this model only, whatever the rules of its manifest let through.
        return _faulty(model, [_refusal(fault)], live, rules)
    if len(draft.text) > MAX_ENTRY_BYTES:
        # It must not be the config that does not fit.
        too_large = Fault("spec", f"takes more than {MAX_ENTRY_BYTES} bytes of a gateway's config")
        return _faulty(model, [too_large], live, rules)
    if objection := rules.objection(model.key.namespace, draft.servedName):
        return Candidate(model, Verdict(accepted=False, reason=objection[0], message=objection[1]))
    verdict = replace(ACCEPTED, price_source=_price_source(model, draft, drafts.prices))
    return Candidate(model, verdict, draft, _not_allowed(draft, model.key, rules))


def _price_source(model: Model, draft: ModelEntry, prices: PriceTable) -> str:
    """Say where the price of a model comes from; empty for a virtual one, which costs what its members cost."""
    if model.spec is None or model.spec.is_virtual:
        return ""
    if model.spec.serving.price is not None:
        return FROM_SPEC
    found = prices.find(draft.backend, draft.upstreamName, draft.task)
    return UNKNOWN_PRICE if found is None else f"{FROM_TABLE} {found.name}"


def _not_allowed(draft: ModelEntry, key: ObjectKey, rules: NameRules) -> tuple[LostName, ...]:
    objections = [(path, name, rules.objection(key.namespace, name)) for path, name in name_fields(draft)]
    return tuple(LostName(path, name, found[0], found[1]) for path, name, found in objections if found)


def _faulty(model: Model, faults: Iterable[Fault], live: LiveConfig, rules: NameRules) -> Candidate:
    """A faulty edit takes a running model out of nothing: what was accepted last stays, if it was of this object."""
    return _unusable(model, invalid(faults), live, rules)


def _unusable(model: Model, verdict: Verdict, live: LiveConfig, rules: NameRules) -> Candidate:
    last = live.entries.get(str(model.key))
    if last is None:
        return _only_reserved(model, verdict, live, rules)
    return _kept(model, verdict, last, rules) if was_of(last, model) else Candidate(model, verdict)


def unread_candidates(live: LiveConfig, namespaces: frozenset[str], rules: NameRules) -> Iterator[Candidate]:
    """Give what is live of namespaces that could never be read, to stay as it is."""
    unread = Verdict(accepted=False, reason=UNREAD, message="its namespace cannot be read")
    for id_ in {*live.entries, *map(str, live.reserved_for)}:
        key, last = key_of(id_), live.entries.get(id_)
        if key.namespace in namespaces:
            model = Model(key=key, uid=last.uid if last else "", generation=0, created="", spec=None)
            yield _kept(model, unread, last, rules) if last else _only_reserved(model, unread, live, rules)


def unread_candidate(model: Model, live: LiveConfig, rules: NameRules) -> Candidate:
    """Give what is live of a model of which nobody knows what its profile gives, to stay as it is."""
    return _unusable(model, Verdict(accepted=False, reason=UNREAD, message="its profile cannot be read"), live, rules)


def held_candidate(candidate: Candidate, verdict: Verdict, last: ModelEntry, rules: NameRules) -> Candidate:
    """Give one whose live entry the brake holds, with all its names; `verdict` says so."""
    return _staying(candidate.model, verdict, last, rules)


def _kept(model: Model, verdict: Verdict, last: ModelEntry, rules: NameRules) -> Candidate:
    """Keep a live entry, with the names that its namespace may have: a rule does not end where a manifest is faulty."""
    if objection := rules.objection(model.key.namespace, last.servedName):
        return Candidate(model, replace(verdict, message=f"{verdict.message}; {objection[1]}"))
    candidate = _staying(model, replace(verdict, kept=True), last, rules)
    return replace(candidate, lost_names=_not_allowed(last, model.key, rules))


def _staying(model: Model, verdict: Verdict, last: ModelEntry, rules: NameRules) -> Candidate:
    # An entry that an older release has written says from now on whose it is.
    now = {"uid": model.uid, "generation": 0, "auto": rules.may_be_auto(model.key.namespace)}
    if (last.uid, last.generation, last.auto) != tuple(now.values()):
        last = last.model_copy(update=now)
    return Candidate(model, replace(verdict, kept_backend=str(last.backend.kind)), last)


def _only_reserved(model: Model, verdict: Verdict, live: LiveConfig, rules: NameRules) -> Candidate:
    names = live.reserved_for.get(model.key, ())
    allowed = tuple(name for name in names if not rules.objection(model.key.namespace, name))
    return Candidate(model, verdict, reserved=allowed)


def was_of(entry: ModelEntry, model: Model) -> bool:
    """Whether an entry was compiled from this very object. Those of older releases have no uid: the time of creation
    says it, or that its status says that it was accepted."""
    if entry.uid:
        return entry.uid == model.uid
    return (entry.created != 0 and entry.created == unix_seconds(model.created)) or _was_accepted(model.status)


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
