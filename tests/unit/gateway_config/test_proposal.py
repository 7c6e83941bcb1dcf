"""What the operator wants the gateway config to be, beside what is live: across restarts, and with the brake."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from capstan_contract.config import ModelEntry, Price
from capstan_contract.names import CONFIG_FILE
from capstan_operator.api.kinds import LLM_MODELS, RATE_LIMIT_POLICIES, Model
from capstan_operator.desired.prices import PRICES_FILE, build_table
from capstan_operator.errors import Retryable
from capstan_operator.gateway_config.proposal import Proposal, Proposer
from capstan_operator.gateway_config.writer import ConfigWriter
from capstan_operator.kube.errors import Forbidden, NotFound
from capstan_operator.loaders.model_list import AllModels
from capstan_operator.loaders.policy_list import AllPolicies
from capstan_operator.metrics import Metrics
from capstan_operator.names import RELEASE_ANNOTATION
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings
from support.memorykube import MemoryKube
from support.plainmodels import make_model
from support.plainpolicies import limits_only, make_policy, named

NAME = Settings().gateway_config_name
OLD = "2020-01-01T00:00:00Z"
SEEN = {"observedGeneration": 1}
HOME = Settings().build.install_namespace
PER_MILLION = {"inputPerMillion": "7"}

NONE = limits_only(())


class Kube(MemoryKube):
    """ConfigMaps in memory, and LLMModels that a GET finds."""

    def __init__(self) -> None:
        super().__init__()
        self.models: set[str] = set()
        self.policies: dict[str, Manifest] = {}
        self.forbids = False

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """Give an object."""
        if kind == LLM_MODELS:
            if self.forbids:
                raise Forbidden(f"cannot get {name}", status=403)
            if f"{namespace}/{name}" not in self.models:
                raise NotFound(name, status=404)
            return {}
        if kind == RATE_LIMIT_POLICIES:
            if (found := self.policies.get(f"{namespace}/{name}")) is None:
                raise NotFound(name, status=404)
            return found
        return await super().get(kind, name, namespace=namespace)


class Operator:
    """One process: it compiles, and writes."""

    def __init__(self, kube: Kube, **settings: Any) -> None:
        self._kube = kube
        self.metrics = Metrics()
        self.events: list[tuple[str, str, str]] = []
        self.writer = ConfigWriter(kube, Settings(**settings))
        self._proposer = Proposer(
            kube, self.writer, Settings(**settings), metrics=self.metrics, tell=lambda *event: self.events.append(event)
        )

    async def propose(
        self,
        models: Sequence[Model],
        *,
        unknown: frozenset[str] = frozenset(),
        unread: Sequence[Model] = (),
        policies: AllPolicies = NONE,
    ) -> Proposal:
        return await self._proposer.propose(AllModels(models, unknown, unknown, unread), policies)

    async def run(
        self,
        models: Sequence[Model],
        *,
        unknown: frozenset[str] = frozenset(),
        unread: Sequence[Model] = (),
        policies: AllPolicies = NONE,
    ) -> Proposal:
        proposal = await self.propose(models, unknown=unknown, unread=unread, policies=policies)
        await self.writer.write(proposal.compiled.config)
        await self._proposer.has_written(proposal)
        return proposal

    @property
    def entries(self) -> dict[str, ModelEntry]:
        assert self.writer.written is not None
        return {entry.id: entry for entry in self.writer.written.models}

    @property
    def held(self) -> float:
        return self.metrics.registry.get_sample_value("capstan_operator_gateway_config_held") or 0.0


@pytest.fixture
def kube() -> Kube:
    """An API server without anything."""
    return Kube()


def _many(count: int = 10, **fields: Any) -> list[Model]:
    return [make_model(f"m{number}", status=SEEN, **fields) for number in range(count)]


async def test_names_stay_across_a_restart(kube: Kube) -> None:
    """A process that has just begun reads back who has which name: an older model takes none."""
    mine = make_model("gpt", namespace="a")
    await Operator(kube).run([mine])
    operator = Operator(kube)
    thief = make_model("thief", namespace="b", created=OLD, model={"aliases": ["gpt"]})
    proposal = await operator.run([mine, thief])
    assert operator.entries["b/thief"].aliases == ()
    assert proposal.compiled.verdicts[thief.key].lost_names
    assert operator.events == []


async def test_the_names_of_a_router_without_members_stay_across_an_upgrade(kube: Kube) -> None:
    """A former release has reserved them nowhere; its status says that they are its own."""
    lacking = {**SEEN, "conditions": [{"type": "Accepted", "status": "False", "reason": "MembersMissing"}]}
    gone = {"members": [{"name": "gone"}]}
    router = make_model("r", namespace="a", status=lacking, model={"aliases": ["x"]}, router=gone)
    await Operator(kube).run([make_model("m")])
    operator = Operator(kube)
    thief = make_model("thief", namespace="b", created=OLD, model={"aliases": ["r", "x"]})
    for _ in range(2):
        await operator.run([router, thief])
        assert operator.entries["b/thief"].aliases == ()


async def test_a_faulty_edit_keeps_its_entry_across_a_restart(kube: Kube) -> None:
    """What was accepted last is read back too, if it is of the same object."""
    await Operator(kube).run([make_model("m")])
    faulty = make_model("m", generation=2, replicas=-1)
    operator = Operator(kube)
    await operator.run([faulty])
    assert operator.entries["team/m"].uid == faulty.uid
    operator = Operator(kube)
    await operator.run([replace(faulty, uid="another")])
    assert operator.entries == {}


async def test_a_config_that_drops_many_is_held_until_it_does_not(kube: Kube) -> None:
    """A wrong setting: what it would drop stays as it is, it is said, and it ends by itself with its cause."""
    models = _many()
    await Operator(kube).run(models)
    operator, before = Operator(kube, allowed_names=(("team", ("x-*",)),)), copy.deepcopy(kube.objects)
    proposal = await operator.run(models)
    assert kube.objects[NAME]["data"] == before[NAME]["data"]
    assert operator.held == 10
    assert all(proposal.compiled.verdicts[model.key].held for model in models)
    assert [(type_, reason) for type_, reason, _ in operator.events] == [("Warning", "ConfigHeld")]
    await operator.run(models)
    assert len(operator.events) == 1, "the same is said once"
    edited = [replace(model, generation=2) for model in models]
    await operator.run([*edited[:9], models[9]])
    assert (operator.held, operator.entries.keys()) == (1, {"team/m9"}), "the one that nobody has edited stays"
    await operator.run(edited)
    assert (operator.held, operator.entries) == (0, {})
    assert operator.events[-1][:2] == ("Normal", "ConfigReleased")


async def test_the_token_that_is_told_is_the_one_that_releases(kube: Kube) -> None:
    """A router that would be held too, had it a member left, is in no token: Event, conditions and hold have the same
    one, and it lets go though nothing was written meanwhile."""
    gone = make_model("gone", status=SEEN)
    router = make_model("r", status=SEEN, router={"members": [{"name": "gone"}]})
    await Operator(kube).run([*_many(), gone, router])
    operator = Operator(kube, allowed_names=(("team", ("x-*",)),))
    proposal = await operator.propose([*_many(), router])
    assert proposal.hold is not None
    assert {one.name for one in proposal.hold.dropped} == {one.key.name for one in _many()}
    word = f"{RELEASE_ANNOTATION}={proposal.hold.token}"
    held = [one.held for one in proposal.compiled.verdicts.values() if one.held]
    assert [word in text for text in (*held, *(note for _, _, note in operator.events))] == [True] * 11
    kube.annotate(NAME, RELEASE_ANNOTATION, proposal.hold.token)
    await operator.run([*_many(), router])
    assert operator.entries == {}


async def test_a_hold_is_ended_by_a_person_once(kube: Kube) -> None:
    """The annotation lets go exactly what it was said of, and is done with then: the same hold needs another word."""
    models = _many()
    await Operator(kube).run(models)
    operator = Operator(kube, allowed_names=(("team", ("x-*",)),))
    hold = (await operator.run(models)).hold
    assert hold is not None
    for value, held in (("another", 10), (hold.token, 0)):
        kube.annotate(NAME, RELEASE_ANNOTATION, value)
        await operator.run(models)
        assert operator.held == held
    assert operator.entries == {}
    await Operator(kube).run(models)
    again = Operator(kube, allowed_names=(("team", ("x-*",)),))
    assert (await again.run(models)).hold == hold
    assert len(again.entries) == 10


async def test_a_hold_stops_nobody_else(kube: Kube) -> None:
    """Changes, new models and deletions of others are written while it lasts, also by a process that has just begun;
    however many others there are by then, what is held is held."""
    models, other = _many(3), make_model("o", namespace="other", status=SEEN)
    await Operator(kube).run([*models, other])
    strict = {"allowed_names": (("team", ("x-*",)),)}
    operator = Operator(kube, **strict)
    changed = make_model("o", namespace="other", generation=2, serving={"weight": 7})
    await operator.run([*models, changed])
    assert (operator.held, operator.entries["other/o"].weight, len(operator.entries)) == (3, 7, 4)
    more = [make_model(f"n{number}", namespace="other") for number in range(20)]
    await operator.run([*models, *more])
    assert (operator.held, len(operator.entries)) == (3, 23)
    said = {**SEEN, "conditions": [{"type": "Degraded", "status": "True", "reason": "ConfigHeld"}]}
    restarted = Operator(kube, **strict)
    await restarted.run([replace(model, status=said) for model in models] + more)
    assert (restarted.held, len(restarted.entries)) == (3, 23)


async def test_a_namespace_that_is_no_longer_watched_stops_nobody(kube: Kube) -> None:
    """Its models go, although they are there still and the operator may not ask for them any more."""
    models, other = _many(), make_model("o", namespace="other")
    await Operator(kube).run([*models, other])
    kube.models = {str(model.key) for model in models}
    operator = Operator(kube, watch_namespaces=("other",))
    await operator.run([other])
    assert operator.entries.keys() == {"other/o"}


async def test_whoever_may_not_ask_goes_by_the_list(kube: Kube) -> None:
    """A right that is missing is no sign that a model is there: it stops no config."""
    await Operator(kube).run(_many())
    kube.forbids = True
    operator = Operator(kube)
    await operator.run([make_model("m0")])
    assert operator.entries.keys() == {"team/m0"}


async def test_all_names_of_a_router_without_members_stay_across_a_restart(kube: Kube) -> None:
    """They are in the config that is written: no status is needed."""
    member = make_model("m", namespace="a")
    router = make_model("r", namespace="a", model={"aliases": ["x"]}, router={"members": [{"name": "m"}]})
    operator = Operator(kube)
    await operator.run([member, router])
    await operator.run([router])
    thief = make_model("thief", namespace="b", created=OLD, model={"aliases": ["r", "x"]})
    for _ in range(2):
        operator = Operator(kube)
        await operator.run([router, thief])
        assert operator.entries["b/thief"].aliases == ()


async def test_a_short_list_is_not_believed(kube: Kube) -> None:
    """Models that a list does not have are asked for by name: nothing is dropped while some are there."""
    models = _many()
    operator = Operator(kube)
    await operator.run(models)
    kube.models = {str(model.key) for model in models}
    for listed in ([], models[:3]):
        with pytest.raises(Retryable, match="does not have some that are there"):
            await operator.run(listed)
        assert len(operator.entries) == 10
    kube.models = set()
    await operator.run(models[:3])
    assert len(operator.entries) == 3, "a person has deleted the others"


async def test_a_live_config_that_cannot_be_read_is_said_and_replaced(kube: Kube) -> None:
    """Nobody knows who had which name, so age decides, once."""
    await Operator(kube).run(_many(2))
    kube.objects[NAME]["data"][CONFIG_FILE] = "{"
    operator = Operator(kube)
    await operator.run(_many(2))
    assert operator.entries.keys() == {"team/m0", "team/m1"}
    assert [(type_, reason) for type_, reason, _ in operator.events] == [("Warning", "ConfigUnreadable")]


async def test_what_is_live_of_a_namespace_that_was_never_read_stays(kube: Kube) -> None:
    """After a restart, what is live is all that is known of a namespace that cannot be read: it stays as it is."""
    gone = make_model("gpt", namespace="gone", external={"provider": "OpenAI", "url": "https://x.example/v1"})
    there = make_model("m")
    await Operator(kube).run([gone, there])
    operator = Operator(kube)
    thief = make_model("thief", created=OLD, model={"servedName": "gpt"})
    await operator.run([there, thief], unknown=frozenset({"gone"}))
    assert operator.entries.keys() == {"gone/gpt", "team/m"}
    await operator.run([there, thief])
    assert operator.entries.keys() == {"team/thief", "team/m"}


async def test_a_namespace_that_was_never_read_stops_nobody_where_nothing_is_live(kube: Kube) -> None:
    """There is nothing of it that could be lost."""
    operator = Operator(kube)
    await operator.run([make_model("m")], unknown=frozenset({"gone"}))
    assert operator.entries.keys() == {"team/m"}


async def test_the_name_of_a_router_that_loses_its_members_stays_in_the_same_process(kube: Kube) -> None:
    """Before any status says so, the process itself knows whose the name is."""
    member, router = make_model("m", namespace="a"), make_model("r", namespace="a", router={"members": [{"name": "m"}]})
    thief = make_model("thief", namespace="b", created=OLD, model={"aliases": ["r"]})
    operator = Operator(kube)
    await operator.run([member, router])
    for _ in range(3):
        await operator.run([router, thief])
        assert operator.entries["b/thief"].aliases == ()


async def test_an_entry_that_an_older_release_wrote_is_kept_and_says_then_whose_it_is(kube: Kube) -> None:
    """It has no uid: the status says that the model was accepted. From then on the entry says it itself."""
    operator = Operator(kube)
    await operator.run([replace(make_model("m"), uid="")])
    accepted = {**SEEN, "conditions": [{"type": "Accepted", "status": "True"}]}
    faulty = make_model("m", generation=2, replicas=-1, status=accepted)
    await operator.run([faulty])
    assert operator.entries["team/m"].uid == faulty.uid
    await operator.run([replace(faulty, status={})])
    assert operator.entries.keys() == {"team/m"}


async def test_models_of_a_namespace_that_cannot_be_read_are_not_asked_for(kube: Kube) -> None:
    """What is live of it stays, and a look that can only fail stops nobody."""
    models = _many()
    await Operator(kube).run(models)
    kube.models = {str(model.key) for model in models}
    operator = Operator(kube)
    other = make_model("x", namespace="other")
    await operator.run([other], unknown=frozenset({"team"}))
    assert len(operator.entries) == 11


async def test_models_whose_profiles_cannot_be_read_are_not_asked_for(kube: Kube) -> None:
    """They are known to be there: what is live of them stays, and the others are as they say, in the same namespace. A
    list that does not have them at all is not believed."""
    models = _many()
    await Operator(kube).run(models)
    kube.models = {str(model.key) for model in models}
    operator = Operator(kube)
    await operator.run([make_model("x")], unread=models)
    assert len(operator.entries) == 11
    with pytest.raises(Retryable, match="does not have some that are there"):
        await operator.run([make_model("x")])


async def test_profiles_that_were_never_read_wait_where_the_live_config_cannot_be_read(kube: Kube) -> None:
    """What is live of the models that name one would go."""
    model = make_model("m")
    await Operator(kube).run([model])
    kube.objects[NAME]["data"][CONFIG_FILE] = "{"
    with pytest.raises(Retryable, match="profiles were never read"):
        await Operator(kube).propose([], unread=[model])


LIMITED = limits_only((make_policy(targetRefs=named("m")),))
LIMIT = ("RateLimitPolicy/team/limits",)


async def test_a_policy_that_a_list_lacks_is_asked_for(kube: Kube) -> None:
    """A list without a policy that is there is not believed: nothing is compiled, and the limits stay."""
    operator, models = Operator(kube), [make_model("m")]
    await operator.run(models, policies=LIMITED)
    assert operator.entries["team/m"].policies == LIMIT
    kube.policies = {"team/limits": {"spec": {}}}
    with pytest.raises(Retryable):
        await operator.propose(models, policies=NONE)
    assert operator.entries["team/m"].policies == LIMIT


@pytest.mark.parametrize("there", [{}, {"team/limits": {"spec": {"className": "another"}}}])
async def test_a_policy_that_is_gone_is_let_go_at_once(kube: Kube, there: dict[str, Any]) -> None:
    """One that is not there when it is asked for, or has been handed to another install, is in force no longer."""
    operator, models = Operator(kube), [make_model("m")]
    await operator.run(models, policies=LIMITED)
    kube.policies = there
    await operator.run(models, policies=NONE)
    assert operator.entries["team/m"].policies == ()


async def test_policies_that_cannot_be_listed_stay(kube: Kube) -> None:
    """While the kind cannot be listed, what is live of it stays in force, and nobody is asked."""
    operator, models = Operator(kube), [make_model("m")]
    await operator.run(models, policies=LIMITED)
    everywhere: frozenset[str | None] = frozenset([None])
    await operator.run([*models, make_model("other")], policies=limits_only((), everywhere, everywhere))
    assert operator.entries["team/m"].policies == LIMIT
    assert operator.entries["team/other"].policies == ()


async def test_limits_stay_across_a_restart(kube: Kube) -> None:
    """A process that has just begun reads back what is in force: it stays through an edit with faults, on the same
    object, and while the kind cannot be listed."""
    await Operator(kube).run([make_model("m")], policies=LIMITED)
    faulty = make_policy(generation=2, targetRefs=named("m"), limits=[])
    assert faulty.faults
    operator = Operator(kube)
    await operator.run([make_model("m")], policies=limits_only((faulty,)))
    assert operator.entries["team/m"].policies == LIMIT
    operator = Operator(kube)
    everywhere: frozenset[str | None] = frozenset([None])
    await operator.run([make_model("m")], policies=limits_only((), everywhere, everywhere))
    assert operator.entries["team/m"].policies == LIMIT
    operator = Operator(kube)
    await operator.run([make_model("m")], policies=limits_only((replace(faulty, uid="another"),)))
    assert operator.entries["team/m"].policies == ()


async def test_prices_stay_across_a_restart_onto_a_faulty_table(kube: Kube) -> None:
    """A process whose first table is faulty goes on with the prices that are in force, until it can read one; without
    a table a price is gone."""
    external = {"model": "gpt-4o", "url": "https://api.openai.com/v1"}
    models = [make_model("m", external=external), make_model("own", external=external, serving={"price": PER_MILLION})]
    await kube.apply(
        build_table({"openai": {"gpt-4o": Price(inputPerMillion=1)}}, name="t", namespace=HOME, source="s")
    )
    await Operator(kube).run(models)
    await kube.apply(build_table({}, name="t", namespace=HOME, source="s") | {"data": {PRICES_FILE: "{"}})
    operator = Operator(kube)
    for _ in range(2):
        await operator.run([*models, make_model("late", external=external)])
        prices = {id_: entry.price for id_, entry in operator.entries.items()}
        one, own = Price(inputPerMillion=1), Price(inputPerMillion=7)
        assert prices == {"team/m": one, "team/own": own, "team/late": one}
    assert [event[1] for event in operator.events] == ["PricesUnreadable"]
    kube.objects.pop("t")
    operator = Operator(kube)
    await operator.run(models)
    assert operator.entries["team/m"].price is None


async def test_no_config_without_limits_when_nothing_can_be_read(kube: Kube) -> None:
    """Neither the policies nor the live config can be read: that is no reason to write one in which nothing is limited,
    unless the API server does not know the kind."""
    await Operator(kube).run([make_model("m")], policies=LIMITED)
    kube.objects[NAME]["data"][CONFIG_FILE] = "not JSON"
    everywhere: frozenset[str | None] = frozenset([None])
    operator = Operator(kube)
    with pytest.raises(Retryable):
        await operator.propose([make_model("m")], policies=limits_only((), everywhere, everywhere))
    await operator.propose([make_model("m")], policies=limits_only((), everywhere, everywhere, is_kind_missing=True))
