"""The one list of LLMModels, and what becomes of namespaces that cannot be read."""

import asyncio
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.errors import Forbidden, KubeError, Unavailable
from capstan_operator.loaders.model_list import AllModels, ModelList
from capstan_operator.loaders.namespaces import NamespaceWatch, Standing
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.resources.api_resource import NAMESPACES
from capstan_operator.resources.resource import ObjectKey
from fakes.kube import FakeKube
from support.llmmodels import simulated
from support.virtualtime import run_virtually

FORBIDDEN = Forbidden("list llmmodels: forbidden", status=403)


class World:
    """A cluster with two teams, a list of their models, and a clock that the test sets."""

    def __init__(self, *namespaces: str, few: bool = False) -> None:
        self.now = 0.0
        self.told: list[tuple[str, Standing]] = []
        self.kube = FakeKube(LLM_MODELS, NAMESPACES)
        for team in ("a", "b"):
            self.kube.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team}})
            self.put("one", team)
        self.restart(*namespaces)

    def restart(self, *namespaces: str) -> None:
        """Forget everything, as a new process does."""
        self.watch = NamespaceWatch(
            self.kube, grace=60, clock=lambda: self.now, on_change=lambda n, s, _: self.told.append((n, s))
        )
        self.list = ModelList(self.kube, ModelParser(), namespaces=namespaces, watch=self.watch, clock=lambda: self.now)

    def put(self, name: str, team: str, generation: int = 1) -> dict[str, Any]:
        """Make or change a model."""
        manifest = simulated(name, team)
        manifest["metadata"] |= {"uid": f"{team}-{name}", "generation": generation}
        return self.kube.put(manifest)

    def forbid(self, team: str, error: KubeError | None = FORBIDDEN) -> None:
        """Let reads in a namespace fail, or be answered again."""
        for verb in ("list", "get"):
            for name in ("", "*"):
                if error:
                    self.kube.faults[verb, LLM_MODELS.plural, team, name] = error
                else:
                    self.kube.faults.pop((verb, LLM_MODELS.plural, team, name), None)

    @property
    def lists(self) -> int:
        """How many LISTs of models there were."""
        return self.kube.calls["list", LLM_MODELS.plural]


def keys_of(found: AllModels) -> set[str]:
    """Give the models by their keys."""
    return {str(model.key) for model in found.models}


@pytest.mark.parametrize("error", [FORBIDDEN, Unavailable("timed out")], ids=["forbidden", "unavailable"])
def test_a_namespace_that_cannot_be_read_keeps_its_models_and_stops_nobody(error: KubeError) -> None:
    """The models of the others are up to date; those of the one stay as they were last known, and it is said once."""
    world = World("a", "b")

    async def scenario() -> None:
        assert keys_of(await world.list.all()) == {"a/one", "b/one"}
        world.forbid("b", error)
        world.put("two", "a")
        for world.now in (10.0, 20.0):
            found = await world.list.all()
            assert keys_of(found) == {"a/one", "a/two", "b/one"}
            assert (found.unreadable, found.unknown) == ({"b"}, set())
            assert world.watch.unreadable == 1
        assert world.told == [("b", Standing.UNREADABLE)]
        found_b = await world.list.find([ObjectKey("a", "two"), ObjectKey("b", "one")])
        assert found_b[ObjectKey("b", "one")] is error, "nothing may be decided about a model that cannot be read"
        assert not isinstance(found_b[ObjectKey("a", "two")], KubeError)

    run_virtually(scenario())


def test_a_namespace_that_comes_back_is_read_again() -> None:
    """What happened in it meanwhile is found, and it is said that all is well."""
    world = World("a", "b")

    async def scenario() -> None:
        await world.list.all()
        world.forbid("b")
        world.now = 10
        await world.list.all()
        world.forbid("b", None)
        world.kube.drop(LLM_MODELS, "one", "b")
        world.put("new", "b")
        world.now = 20
        found = await world.list.all()
        assert keys_of(found) == {"a/one", "b/new"}
        assert (found.unreadable, world.watch.unreadable) == (frozenset(), 0)
        assert world.told == [("b", Standing.UNREADABLE), ("b", Standing.READABLE)]

    run_virtually(scenario())


def test_a_restarted_operator_names_the_namespaces_that_it_has_never_read() -> None:
    """It knows no models of them: whoever compiles must keep what is live of them."""
    world = World("a", "b")
    world.forbid("b")

    async def scenario() -> None:
        found = await world.list.all()
        assert (keys_of(found), found.unreadable, found.unknown) == ({"a/one"}, {"b"}, {"b"})

    run_virtually(scenario())


def test_a_namespace_that_does_not_exist_is_let_go_of_after_a_grace() -> None:
    """Only the API server's word that there is none counts, not that reading is forbidden."""
    world = World("a", "b")

    async def scenario() -> None:
        await world.list.all()
        world.forbid("b")
        world.kube.drop(NAMESPACES, "b")
        for world.now, expected in ((10.0, {"a/one", "b/one"}), (69.0, {"a/one", "b/one"}), (71.0, {"a/one"})):
            found = await world.list.all()
            assert keys_of(found) == expected
        assert found.unknown == frozenset()
        assert world.told == [("b", Standing.MISSING), ("b", Standing.GONE)]
        assert await world.list.find([ObjectKey("b", "one")]) == {}

    run_virtually(scenario())


def test_a_forbidden_namespace_of_which_nothing_can_be_told_stays_for_ever() -> None:
    """Taking rights away takes no model away."""
    world = World("a", "b")
    world.kube.faults["get", NAMESPACES.plural, "", "b"] = FORBIDDEN

    async def scenario() -> None:
        await world.list.all()
        world.forbid("b")
        for world.now in (10.0, 100.0, 10_000.0):
            assert keys_of(await world.list.all()) == {"a/one", "b/one"}
        assert world.told == [("b", Standing.UNREADABLE)]

    run_virtually(scenario())


def test_when_nothing_can_be_read_the_api_server_is_away() -> None:
    """Then there is nothing to go on with: the error is raised, and nobody is said to be unreadable."""
    world = World("a", "b")
    for team in ("a", "b"):
        world.forbid(team, Unavailable("timed out"))

    async def scenario() -> None:
        with pytest.raises(Unavailable):
            await world.list.all()
        assert (world.told, world.watch.unreadable) == ([], 0)

    run_virtually(scenario())


def test_who_asks_at_the_same_time_shares_one_list() -> None:
    """Lanes, resync and members together cost one LIST, and so do those who ask a moment later."""
    world = World()

    async def scenario() -> None:
        many = [ObjectKey("a", f"m-{number}") for number in range(40)]
        await asyncio.gather(world.list.all(), world.list.all(), world.list.find(many))
        assert world.lists == 1
        world.now = 0.9
        await world.list.all()
        assert world.lists == 1
        world.now = 1.1
        await world.list.all()
        assert world.lists == 2

    run_virtually(scenario())


def test_a_list_that_began_before_an_event_does_not_answer_who_was_woken_by_it() -> None:
    """A wake-up for a version sees at least that version, also when a list is under way or just done."""
    world = World()
    gate = asyncio.Event

    async def scenario() -> None:
        await world.list.all()
        world.kube.versions.saw(LLM_MODELS, world.put("one", "a", generation=2))
        found = await world.list.all()
        assert {m.generation for m in found.models if m.key == ObjectKey("a", "one")} == {2}
        assert world.lists == 2

        held = gate()
        old = FakeKube.list

        async def slow(self: FakeKube, *args: Any, **options: Any) -> Any:
            listing = await old(self, *args, **options)
            await held.wait()
            return listing

        world.now = 5
        FakeKube.list = slow  # type: ignore[method-assign]
        try:
            first = asyncio.create_task(world.list.all())
            await asyncio.sleep(0.1)
            world.now = 5.5
            world.kube.versions.saw(LLM_MODELS, world.put("one", "a", generation=3))
            second = asyncio.create_task(world.list.all())
            await asyncio.sleep(0.1)
            held.set()
            assert {m.generation for m in (await second).models if m.key == ObjectKey("a", "one")} == {3}
            await first
        finally:
            FakeKube.list = old  # type: ignore[method-assign]

    run_virtually(scenario())


def test_our_own_write_to_a_model_makes_the_list_too_old_for_that_model_alone() -> None:
    """A status that we wrote must be seen by the model's next reconcile, and costs the config lane no LIST."""
    world = World()

    async def scenario() -> None:
        await world.list.all()
        world.kube.versions.wrote(LLM_MODELS, world.put("one", "a"))
        await world.list.all()
        await world.list.find([ObjectKey("b", "one")])
        assert (world.lists, world.kube.calls["get", LLM_MODELS.plural]) == (1, 0)
        await world.list.find([ObjectKey("a", "one")])
        assert (world.lists, world.kube.calls["get", LLM_MODELS.plural]) == (1, 1)

    run_virtually(scenario())


def test_few_models_are_fetched_by_name_and_many_by_one_list() -> None:
    """A pod that becomes ready must not cost a list of all models."""
    world = World()

    async def scenario() -> None:
        found = await world.list.find([ObjectKey("a", "one"), ObjectKey("a", "none")])
        assert set(found) == {ObjectKey("a", "one")}
        assert (world.lists, world.kube.calls["get", LLM_MODELS.plural]) == (0, 2)

    run_virtually(scenario())


def test_a_failed_list_fails_who_waits_and_not_the_next_one() -> None:
    """The next one lists again."""
    world = World()
    world.kube.faults["list", LLM_MODELS.plural, "", ""] = Unavailable("timed out")

    async def scenario() -> None:
        results = await asyncio.gather(world.list.all(), world.list.all(), return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        world.kube.faults.clear()
        assert keys_of(await world.list.all()) == {"a/one", "b/one"}

    run_virtually(scenario())


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
def test_an_install_sees_models_of_its_class_alone(few: bool) -> None:
    """A model of another class is not there, in the list and when it is asked for by name, whatever else is wrong with
    it; a model that changes its class goes from one install to the other, and is never seen by both."""
    world = World()
    classes = {"": "plain", "blue": "mine", "green": "theirs"}
    for class_, name in classes.items():
        manifest = world.put(name, "a")
        manifest["spec"] = {**manifest["spec"], **({"className": class_} if class_ else {}), "replicas": "wrong"}
        world.kube.put(manifest)
    keys = [ObjectKey("a", name) for name in (*classes.values(), *(f"absent{n}" for n in range(1 if few else 30)))]

    async def seen_by(class_: str) -> set[str]:
        models = ModelList(world.kube, ModelParser(), class_name=class_, clock=lambda: world.now)
        found, listed = await models.find(keys), await models.all()
        by_name = {key.name for key in found}
        assert by_name == {model.key.name for model in listed.models if model.key in keys}
        return by_name

    async def scenario() -> None:
        assert {class_: await seen_by(class_) for class_ in classes} == {k: {v} for k, v in classes.items()}
        manifest = world.put("mine", "a", generation=2)
        manifest["spec"] = {**manifest["spec"], "className": "green"}
        world.kube.put(manifest)
        assert await seen_by("blue") == set()
        assert await seen_by("green") == {"mine", "theirs"}

    run_virtually(scenario())


@pytest.mark.parametrize("error", [FORBIDDEN, Unavailable("timed out")], ids=["forbidden", "unavailable"])
def test_a_moment_in_which_it_cannot_be_told_begins_no_grace_anew(error: KubeError) -> None:
    """A namespace that is missing stays so, since when it was, while the API server does not say; and is let go of."""
    world = World("a", "b")

    async def scenario() -> None:
        await world.list.all()
        world.forbid("b")
        world.kube.drop(NAMESPACES, "b")
        for world.now in (10.0, 60.0, 70.0):
            if world.now == 60.0:
                world.kube.faults["get", NAMESPACES.plural, "", "b"] = error
            else:
                world.kube.faults.pop(("get", NAMESPACES.plural, "", "b"), None)
            await world.list.all()
            assert world.watch.is_gone("b") is (world.now == 70.0)
        assert world.told == [("b", Standing.MISSING), ("b", Standing.GONE)]

    run_virtually(scenario())
