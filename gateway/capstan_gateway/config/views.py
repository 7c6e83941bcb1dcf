"""What of a config somebody may use whom not everything is allowed. Pure.

Who may use a model under one of its names may use it: under all of its names, and wherever a virtual model would ask
it. An adapter is a model of its own. A virtual model of which nothing else is left is not there either, as in a config
that lacks its members.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from capstan_gateway.identity.names import Patterns, allowed
from capstan_gateway.selection.plan import CascadePlan, Plan

MAX_VIEWS: Final = 2048
MAX_KNOWN: Final = 256
"""Models of which a view remembers whether they are there."""
MAX_NAMES: Final = 100_000
"""Names that all views of a config have together: some ten megabytes."""


class Named(Protocol):
    """What this needs to know of a model."""

    @property
    def id(self) -> str:
        """The id of its entry, which its adapters share."""
        ...

    @property
    def name(self) -> str:
        """The name that it has among its own."""
        ...

    @property
    def plan(self) -> Plan | None:
        """What a virtual model does."""
        ...


Model = TypeVar("Model", bound=Named)
View = TypeVar("View")
Names = Mapping[str, Model]


def granted(
    patterns: tuple[str, ...], models: Names[Model], served: Mapping[str, Names[Model]], main: Mapping[str, Model]
) -> dict[str, Names[Model]]:
    """Give what of `served` these patterns allow: names and models by the id of an entry, in the order of the ids.

    `models` has all of them by their names; `main` has the models themselves, which are no adapters, by their ids.
    """
    found: dict[str, dict[str, Model]] = {}
    for name in allowed(patterns, models):
        model = models[name]
        names = {other: one for other, one in served[model.id].items() if one is model}
        found.setdefault(model.id, {}).update(names)
    _drop_empty(found, main)
    return {entry_id: found[entry_id] for entry_id in sorted(found)}


def _drop_empty(found: dict[str, dict[str, Model]], main: Mapping[str, Model]) -> None:
    """Take away the virtual models without a member: cascades first, because they may be members of routers."""
    virtual = [entry_id for entry_id in found if main[entry_id].plan is not None]
    for entry_id in sorted(virtual, key=lambda one: not isinstance(main[one].plan, CascadePlan)):
        members = members_of(main[entry_id].plan)
        if members is not None and not any(_has(found, member, main) for member in members):
            del found[entry_id]


def _has(found: Mapping[str, Names[Model]], member: str, main: Mapping[str, Model]) -> bool:
    return any(model is main[member] for model in found.get(member, {}).values())


def members_of(plan: Plan | None) -> tuple[str, ...] | None:
    """Give the ids of the members that a plan names; None when it names none, and chooses among all models."""
    if plan is None or isinstance(plan, CascadePlan):
        return None if plan is None else plan.members
    return None if plan.members is None else tuple(member.model for member in plan.members)


class Allowed(Generic[Model]):
    """Says of single models whether patterns allow them, without a look at any other: as `granted` does of all."""

    __slots__ = ("_known", "_main", "_patterns", "_served")

    def __init__(
        self, patterns: tuple[str, ...], served: Mapping[str, Names[Model]], main: Mapping[str, Model]
    ) -> None:
        self._patterns = Patterns(patterns)
        self._served = served
        self._main = main
        self._known: dict[tuple[str, str], bool] = {}

    def allows(self, model: Model) -> bool:
        """Whether a model is there."""
        key = model.id, model.name
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = self._is_named(model) and self._has_members(model)
        return found

    def _is_named(self, model: Model) -> bool:
        names = self._served.get(model.id, {})
        return any(one is model and self._patterns.allows(name) for name, one in names.items())

    def _has_members(self, model: Model) -> bool:
        members = members_of(model.plan)
        if members is None:
            return True
        known = (self._main[member] for member in members if member in self._main)
        if isinstance(model.plan, CascadePlan):
            return any(self._is_named(member) for member in known)
        return any(
            self.allows(member) if isinstance(member.plan, CascadePlan) else self._is_named(member) for member in known
        )


class Only(Mapping[str, Model]):
    """Those of a config's models that are allowed, looked at one by one; `whole` gives all of them."""

    __slots__ = ("_allowed", "_of", "_whole")

    def __init__(
        self, of: Mapping[str, Model], allowed: Allowed[Model], whole: Callable[[], Mapping[str, Model]]
    ) -> None:
        self._of = of
        self._allowed = allowed
        self._whole = whole

    def get(self, name: str, default: Any = None) -> Any:
        """Give the model of a name; `default` where there is none."""
        model = self._of.get(name)
        return model if model is not None and self._allowed.allows(model) else default

    def __getitem__(self, name: str) -> Model:
        model = self._of[name]
        if not self._allowed.allows(model):
            raise KeyError(name)
        return model

    def __contains__(self, name: object) -> bool:
        model = self._of.get(name) if isinstance(name, str) else None
        return model is not None and self._allowed.allows(model)

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())


class Views(Generic[View]):
    """The views of one config, by the patterns that they are made of; those that were not used for longest go first."""

    def __init__(self, *, most: int = MAX_VIEWS, most_names: int = MAX_NAMES) -> None:
        self._most = most
        self._most_names = most_names
        self._names = 0
        self._views: OrderedDict[tuple[str, ...], tuple[View, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._views)

    def get(
        self, patterns: tuple[str, ...], make: Callable[[tuple[str, ...]], View], size: Callable[[View], int]
    ) -> View:
        """Give the view of these patterns, made when it is not there; `size` counts the names that it has."""
        known = self._views.get(patterns)
        if known is not None:
            self._views.move_to_end(patterns)
            return known[0]
        view = make(patterns)
        self._views[patterns] = view, size(view)
        self._names += size(view)
        while len(self._views) > self._most or (self._names > self._most_names and len(self._views) > 1):
            _, (_, names) = self._views.popitem(last=False)
            self._names -= names
        return view
