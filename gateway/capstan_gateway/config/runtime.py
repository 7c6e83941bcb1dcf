"""What a request runs against: one immutable object, compiled from one config and replaced as a whole."""

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from copy import copy
from functools import partial
from operator import is_
from typing import Any, Protocol

import orjson

from capstan_contract.config import (
    CascadeBackend,
    ExternalBackend,
    GatewayConfig,
    ModelEntry,
    Price,
    Provider,
    RouterBackend,
    StaticBackend,
    StickyBy,
    Strategy,
    Task,
    Timeouts,
    canary_entry,
)
from capstan_contract.names import AUTO, CANARY, STABLE
from capstan_gateway.arms.experiments import setup_of
from capstan_gateway.caches.key import identity_of
from capstan_gateway.config.views import Allowed, Only, Views, granted
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.identity.keyring import NO_KEYS, Keyring, build_keyring
from capstan_gateway.identity.principal import Principal
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.selection.filters import Member
from capstan_gateway.selection.plan import CascadePlan, Plan, RouterPlan
from capstan_gateway.streaming.relay import Rename
from capstan_gateway.telemetry.metrics import Metrics, ModelMetrics
from capstan_gateway.tokens.price import Rates


class ServedModel:
    """A name that clients may ask for, with everything that a request to it needs, looked up beforehand."""

    __slots__ = (
        "adapter", "answer", "answer_alone", "auto", "canary", "capabilities", "context_window", "continuous_usage",
        "created", "endpoints", "external", "fallbacks", "id", "identity", "isolates", "layers", "main",
        "max_output_tokens", "metrics", "name", "name_lines", "plan", "prefixes", "price", "provider", "queue", "rates",
        "rename", "revision", "speaks_anthropic", "target", "task", "timeouts", "track", "upstream_name", "weight",
    )  # fmt: skip

    def __init__(
        self,
        entry: ModelEntry,
        *,
        name: str,
        upstream_name: str,
        endpoints: EndpointSet,
        metrics: ModelMetrics,
        plan: Plan | None = None,
        pseudonyms: Pseudonyms | None = None,
        track: str = "",
    ) -> None:
        self.id = entry.id
        self.name = name
        self.track = track
        """Which of two revisions it is, while one is tried; empty: there is one."""
        self.revision = entry.revision
        self.main = self
        """The model itself: of a revision that is tried the stable one."""
        self.canary: ServedModel | None = None
        """The revision that is tried beside it, under the same name; None: there is none."""
        self.name_lines = b"x-capstan-model: %b\r\n" % name.encode()
        """The headers that name it in answers."""
        if track:
            self.name_lines += b"x-capstan-track: %b\r\n" % track.encode()
        self.upstream_name = upstream_name
        self.adapter = "" if upstream_name == entry.upstreamName else upstream_name
        """The name of the LoRA adapter in its engine; empty for the model itself."""
        self.continuous_usage = entry.continuousUsage
        """Whether its engine can tell its usage with every chunk of a stream."""
        self.isolates = entry.tenantSalt
        """Whether its engine is to keep what it has computed of prompts apart by tenants."""
        self.task: Task = entry.task
        self.identity = identity_of(entry, ()) if entry.task is Task.EMBED else b""
        """Of a model that makes vectors: those of two identities are not comparable."""
        self.created = entry.created
        self.timeouts: Timeouts = entry.timeouts
        self.capabilities = frozenset(entry.capabilities)
        self.context_window = entry.contextWindow
        self.max_output_tokens = entry.maxOutputTokens
        self.target = Target.of(entry, pseudonyms)
        """What requests must look like for it."""
        self.weight = entry.weight
        self.auto = entry.auto
        """Whether the built-in virtual model may choose it."""
        self.plan = plan
        """What a virtual model does with a request; None for a model that answers itself."""
        self.prefixes: Mapping[str, str] = {prefix.name: prefix.system for prefix in entry.prefixes}
        """Prompts that requests may begin with by name."""
        self.price: Price | None = entry.price
        self.rates = None if entry.price is None else Rates.of(entry.price)
        """The same, as what is charged is reckoned with."""
        self.fallbacks = entry.fallbacks
        self.endpoints = endpoints
        self.metrics = metrics
        self.rename = Rename(upstream_name, name) if upstream_name != name else None
        backend = entry.backend
        self.external = isinstance(backend, ExternalBackend)
        self.queue = entry.queue
        """How its requests may wait; None: there is no worker that takes from a queue."""
        self.provider = backend.provider if isinstance(backend, ExternalBackend) else ""
        self.speaks_anthropic = self.provider == Provider.ANTHROPIC
        self.layers: tuple[Any, ...] = ()
        """What is in force on it: `pipeline.layers.Layer`, the outermost first."""
        self.answer: Callable[[Any], Awaitable[Any]] = _not_composed
        """From a `pipeline.ask.Ask` to a `pipeline.reply.Reply`, as the model is asked for by its name."""
        self.answer_alone: Callable[[Any], Awaitable[Any]] = _not_composed
        """The same as one of several that may answer: without its own fallbacks."""


async def _not_composed(ask: object) -> object:
    raise RuntimeError(f"no answer function was composed for {ask!r}")


class Answering(Protocol):
    """Who gives the models of one config their answer functions: the pipeline, which stands above this room."""

    def layers_of(self, entry: ModelEntry) -> tuple[Any, ...]:
        """Give what is in force on a model; the same objects as in the config before, where nothing has changed."""
        ...

    def layers_of_canary(self, entry: ModelEntry) -> tuple[Any, ...]:
        """Give what is in force on a revision that is tried, apart from what is on the model: by the canary's entry."""
        ...

    def compose(self, model: ServedModel, layers: tuple[Any, ...]) -> None:
        """Set `layers`, `answer` and `answer_alone`."""
        ...


class Runtime:
    """One config, ready to serve."""

    __slots__ = (
        "_auto", "_config", "_entries", "_full", "_listing", "_members", "_served", "_views", "answering", "auto",
        "by_id", "hash", "keyring", "models", "whole",
    )  # fmt: skip

    def __init__(
        self,
        config_hash: str,
        entries: Mapping[str, ModelEntry],
        served: Mapping[str, Mapping[str, ServedModel]],
        answering: Answering,
        auto: ServedModel | None = None,
        *,
        keyring: Keyring = NO_KEYS,
        whole: "Runtime | None" = None,
    ) -> None:
        self.hash = config_hash
        self.keyring = keyring
        """The API keys of the config."""
        self.whole: Runtime = whole or self
        """The config with everything in it: itself, unless this is what somebody may use of it."""
        self._entries = entries
        self._served = served
        self.answering = answering
        self.models: Mapping[str, ServedModel] = {
            name: model for names in served.values() for name, model in names.items()
        }
        """By every name that clients may use: served names, aliases, adapters."""
        mains = ((name, names.get(entries[name].servedName)) for name, names in sorted(served.items()))
        self.by_id: Mapping[str, ServedModel] = {name: model for name, model in mains if model is not None}
        self._auto = auto
        self.auto = auto if AUTO not in self.models and self.models else None
        """The built-in virtual model; None while a model of the config has its name."""
        self._members: dict[tuple[str, frozenset[Task]], tuple[Member[ServedModel], ...]] = {}
        self._views: Views[Runtime] = Views()
        self._full: Views[Runtime] = Views()
        """What views have that had to be made as a whole: it is of these models, whatever keys there are."""
        self._listing = b""
        self._config: GatewayConfig | None = None

    def of(self, config: GatewayConfig) -> "Runtime":
        """Take in what it was compiled from."""
        self._config = config
        return self

    def differs_in_keys_alone(self, config: GatewayConfig) -> bool:
        """Whether a config has the very models and policies of this one, and other keys."""
        known = self._config
        if known is None or (known.keys, known.keySalt) == (config.keys, config.keySalt):
            return False
        # Tuples are compared by the identity of their items first, and what has not changed is the same object.
        return (known.models, known.policies) == (config.models, config.policies)

    def with_keys(self, config: GatewayConfig, keyring: Keyring) -> "Runtime":
        """Give the same for other keys: no model of it is looked at, and what somebody may use is not made anew."""
        other = copy(self)
        other.hash, other.keyring, other.whole = config.hash, keyring, other
        other._views = Views()  # They cost nothing until somebody looks; what was looked for is in `_full`.
        return other.of(config)

    @property
    def listing(self) -> bytes:
        """The list of models as OpenAI's API gives it."""
        if not self._listing:
            cards = [_card(name, model) for name, model in self.listed()]
            self._listing = orjson.dumps({"object": "list", "data": cards})
        return self._listing

    def seen_by(self, principal: Principal) -> "Runtime":
        """Give what somebody may use of the config: a Runtime that has nothing else in it.

        Whoever serves a request knows no other, so that no member, fallback, list or error can name what is not in it.
        """
        if not principal.models:
            return self
        return self._views.get(principal.models, partial(View, self), lambda _: 1)

    @property
    def full(self) -> "Runtime":
        """The same with all of it at hand: itself, unless it looks at its models one by one."""
        return self

    def made_of(self, patterns: tuple[str, ...]) -> "Runtime":
        """Give all that these patterns allow: takes time in proportion to the models that there are, the first time."""
        return self._full.get(patterns, self._make, lambda made: len(made.models))

    def _make(self, patterns: tuple[str, ...]) -> "Runtime":
        served = granted(patterns, self.models, self._served, self.by_id)
        return Runtime(self.hash, self._entries, served, self.answering, self._auto)

    def cascaded(self, plan: CascadePlan) -> list[ServedModel]:
        """Give the members of a cascade, in their order."""
        return [self.by_id[member] for member in plan.members if member in self.by_id]

    def listed(self) -> list[tuple[str, ServedModel]]:
        """Give every name that requests may say, with its model, in the order of the names."""
        named = {**self.models, AUTO: self.auto} if self.auto is not None else self.models
        return sorted(named.items(), key=lambda item: item[0])

    @property
    def tracks(self) -> Iterator[ServedModel]:
        """Give every model by its own name, and behind it the revision of it that is tried: all that have endpoints."""
        for model in self.by_id.values():
            yield model
            if model.canary is not None:
                yield model.canary

    def find(self, name: str) -> ServedModel | None:
        """Give the model that clients call so; None when there is none."""
        model = self.models.get(name)
        return self.auto if model is None and name == AUTO else model

    def members(self, model: ServedModel, tasks: frozenset[Task]) -> tuple[Member[ServedModel], ...]:
        """Give the members of a virtual model that do one of these tasks, in the order of its plan."""
        found = self._members.get((model.id, tasks))
        if found is None:
            members = (member for member in self._all_members(model.plan) if member.model.task in tasks)
            found = self._members[model.id, tasks] = tuple(members)
        return found

    def _all_members(self, plan: Plan | None) -> Iterator[Member[ServedModel]]:
        if isinstance(plan, CascadePlan):
            yield from map(Member, self.cascaded(plan))
        elif plan is not None and plan.members is not None:
            for member in plan.members:
                if member.model in self.by_id:
                    yield Member(self.by_id[member.model], member.weight, member.priority)
        elif plan is not None:
            for model in self.by_id.values():
                if model.plan is None and model.auto:
                    yield Member(model, model.weight)

    def compiled(self, entry: ModelEntry, layers: tuple[Any, ...]) -> Mapping[str, ServedModel] | None:
        """Give what this very entry with these layers was compiled to, by name; None when either is another one."""
        known = self._entries.get(entry.id)
        # Identity first: to compare a thousand entries field by field takes milliseconds.
        if known is None or (known is not entry and known != entry):
            return None
        before = self.by_id[entry.id].layers
        same = len(before) == len(layers) and all(map(is_, before, layers))
        return self._served[entry.id] if same else None


class View(Runtime):
    """What patterns allow of a config. Models are looked at one by one, as they are asked for: most requests name one,
    and to look at thousands for each list of names would take the loop.

    Who chooses among all, as `auto` does, or lists them, has all of them looked at, once for a config.
    """

    __slots__ = ("_of", "_patterns")

    def __init__(self, of: Runtime, patterns: tuple[str, ...]) -> None:
        self.hash, self.keyring, self.whole = of.hash, of.keyring, of.whole
        self.answering = of.answering
        self._of, self._patterns = of.full, patterns
        self._config = None
        self._views = Views()
        allowed = Allowed(patterns, self._of._served, self._of.by_id)
        self.models = Only(self._of.models, allowed, lambda: self.full.models)
        self.by_id = Only(self._of.by_id, allowed, lambda: self.full.by_id)

    @property
    def full(self) -> Runtime:
        """What it has as a whole."""
        return self._of.made_of(self._patterns)

    @property
    def auto(self) -> ServedModel | None:  # type: ignore[override]
        """The built-in virtual model."""
        return self.full.auto

    @property
    def listing(self) -> bytes:
        """The list of models as OpenAI's API gives it."""
        return self.full.listing

    def listed(self) -> list[tuple[str, ServedModel]]:
        """Give every name that requests may say, with its model, in the order of the names."""
        return self.full.listed()

    def members(self, model: ServedModel, tasks: frozenset[Task]) -> tuple[Member[ServedModel], ...]:
        """Give the members of a virtual model that do one of these tasks, in the order of its plan."""
        if isinstance(model.plan, RouterPlan) and model.plan.members is None:
            return self.full.members(model, tasks)
        return tuple(member for member in self._all_members(model.plan) if member.model.task in tasks)


def _card(name: str, model: ServedModel) -> dict[str, object]:
    return {"id": name, "object": "model", "created": model.created, "owned_by": model.provider or "capstan"}


def model_card(runtime: Runtime, name: str) -> dict[str, object] | None:
    """Give one entry of the listing; None for a name that is not served."""
    model = runtime.find(name)
    return None if model is None else _card(name, model)


def compile_runtime(
    config: GatewayConfig,
    *,
    endpoints_of: Callable[[ModelEntry], EndpointSet],
    metrics: Metrics,
    answering: Answering,
    previous: Runtime | None = None,
    auto: Strategy = Strategy.CHEAPEST,
    pseudonyms: Pseudonyms | None = None,
) -> Generator[None, None, Runtime]:
    """Build the Runtime of a config, one model at each step; raises nothing that a valid config could cause.

    `pseudonyms` gives users the names that models are told; without it they have a key of this Runtime.

    Models that are as they were in `previous` are taken from there: a change of one model among a thousand costs
    about as much as that model, and a change of keys as much as the keys that it adds.
    """
    before = NO_KEYS if previous is None else previous.keyring
    if previous is not None and previous.differs_in_keys_alone(config):
        return previous.with_keys(config, (yield from build_keyring(config.keys, config.keySalt, before)))
    served: dict[str, Mapping[str, ServedModel]] = {}
    pseudonyms = pseudonyms or Pseudonyms()
    for entry in config.models:
        layers = answering.layers_of(entry)
        kept = None if previous is None else previous.compiled(entry, layers)
        if kept is None:
            kept = _compile_model(entry, endpoints_of(entry), metrics, pseudonyms)
            tried = canary_entry(entry)
            if tried is not None:
                _compile_canary(kept, tried, endpoints_of(tried), answering.layers_of_canary(tried), pseudonyms)
            for model in dict.fromkeys(kept.values()):
                answering.compose(model, layers)
        served[entry.id] = kept
        yield
    entry = ModelEntry(id=AUTO, servedName=AUTO, upstreamName=AUTO, backend=StaticBackend(urls=()))
    plan = RouterPlan(auto, StickyBy.USER, None)
    chooses = _compile_model(entry, endpoints_of(entry), metrics, pseudonyms, plan)[AUTO]
    answering.compose(chooses, answering.layers_of(entry))
    keyring = yield from build_keyring(config.keys, config.keySalt, before)
    entries = {entry.id: entry for entry in config.models}
    return Runtime(config.hash, entries, served, answering, chooses, keyring=keyring).of(config)


def _compile_model(
    entry: ModelEntry, endpoints: EndpointSet, metrics: Metrics, pseudonyms: Pseudonyms, plan: Plan | None = None
) -> dict[str, ServedModel]:
    plan = plan or _plan_of(entry)

    def serve(name: str, upstream: str) -> ServedModel:
        counted = ModelMetrics(metrics, name)
        return ServedModel(
            entry, name=name, upstream_name=upstream, endpoints=endpoints, metrics=counted, plan=plan,
            pseudonyms=pseudonyms, track=STABLE if entry.canary is not None else "",
        )  # fmt: skip

    main = serve(entry.servedName, entry.upstreamName)
    adapters = {adapter.servedName: serve(adapter.servedName, adapter.upstreamName) for adapter in entry.adapters}
    return {entry.servedName: main, **dict.fromkeys(entry.aliases, main), **adapters}


def _compile_canary(
    served: Mapping[str, ServedModel],
    entry: ModelEntry,
    endpoints: EndpointSet,
    layers: tuple[Any, ...],
    pseudonyms: Pseudonyms,
) -> None:
    """Give each name of a model its canary, whose entry this is. What is counted by name is counted together."""
    for model in dict.fromkeys(served.values()):
        upstream = model.adapter or entry.upstreamName
        model.canary = ServedModel(
            entry, name=model.name, upstream_name=upstream, endpoints=endpoints, metrics=model.metrics,
            pseudonyms=pseudonyms, track=CANARY,
        )  # fmt: skip
        model.canary.layers = layers
        model.canary.main = model


def _plan_of(entry: ModelEntry) -> Plan | None:
    backend = entry.backend
    if isinstance(backend, RouterBackend):
        return RouterPlan(backend.strategy, backend.stickyBy, backend.members, setup_of(entry.id, backend))
    if isinstance(backend, CascadeBackend):
        return CascadePlan(backend.members, backend.threshold, backend.maxCost, backend.estimator)
    return None
