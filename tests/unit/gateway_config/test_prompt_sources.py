"""The ConfigMaps that models have prompts in: read when they are named, and again and again."""

import asyncio
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.desired.prompts import Trouble
from capstan_operator.gateway_config.prompt_sources import FIRST_SECONDS, PROMPT_POLLING, PromptSources, problems_of
from capstan_operator.kube.errors import Forbidden, Unavailable
from capstan_operator.resources.api_resource import CONFIG_MAPS
from fakes.kube import FakeKube
from support.plainmodels import make_model
from support.virtualtime import run_virtually

LOOK = ("list", "configmaps", "team", "")
BROKEN = Unavailable("list configmaps: HTTP 500", status=500)
LONGEST = max(PROMPT_POLLING.found, PROMPT_POLLING.failed) * 1.2


class World:
    """ConfigMaps, one model that names a key of them, and what is known of it."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.told: list[set[str]] = []
        self.sources = PromptSources(
            self.kube, on_change=lambda keys: self.told.append({key.name for key in keys}), rng=lambda: 0.5
        )

    def put(self, text: str | None, key: str = "rules") -> None:
        """Write the ConfigMap, as somebody else would; None: delete it."""
        if text is None:
            self.kube.drop(CONFIG_MAPS, "prompts", "team")
            return
        metadata = {"name": "prompts", "namespace": "team"}
        self.kube.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}})

    def text(self, model: Model, **last: str) -> str | None:
        """The prompt of the model as it is filled in now."""
        spec = self.sources.fill(model, last).model.spec
        assert spec is not None
        return spec.prompts.get("house")

    def reasons(self, model: Model) -> list[str]:
        """What its status would say."""
        return [problem.reason for problem in problems_of(self.sources.fill(model, {}))]


def naming(name: str = "llama", key: str = "rules", namespace: str = "team") -> Model:
    """A model that names a key of the ConfigMap."""
    source = {"configMapKeyRef": {"name": "prompts", "key": key}}
    return make_model(name, namespace=namespace, prefixes=[{"name": "house", "systemFrom": source}])


def follow(world: World, steps: Any) -> None:
    """Run the looks beside the steps of a test, in virtual time."""

    async def main() -> None:
        looks = asyncio.create_task(world.sources.run())
        try:
            await steps()
        finally:
            looks.cancel()

    run_virtually(main())


def test_a_change_is_found_and_told_to_those_who_name_it() -> None:
    """A prompt is there before `want` returns; another text, and the end of it, are told to its models alone."""
    world, one, two, other = World(), naming(), naming("second"), make_model("other")

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([one, two, other])
        assert world.text(one) == "Be kind."
        assert world.told == []
        world.put("Be brief.")
        await asyncio.sleep(LONGEST)
        assert world.told == [{"llama", "second"}]
        assert world.text(one) == "Be brief."
        world.put(None)
        await asyncio.sleep(LONGEST)
        assert world.told == [{"llama", "second"}] * 2
        assert (world.text(one), world.text(one, house="Be brief.")) == (None, "Be brief.")
        assert world.reasons(one) == [Trouble.MISSING]

    follow(world, steps)


def test_what_is_not_there_yet_is_found_within_seconds() -> None:
    """Whoever waits for a ConfigMap, or for a key of it, does not wait for half a minute."""
    world, model = World(), naming()

    async def steps() -> None:
        await world.sources.want([model])
        assert world.reasons(model) == [Trouble.MISSING]
        world.put("text", key="another")
        await asyncio.sleep(PROMPT_POLLING.absent * 1.2)
        assert world.reasons(model) == [Trouble.NO_KEY]
        world.put("Be kind.")
        await asyncio.sleep(PROMPT_POLLING.absent * 1.2)
        assert (world.text(model), world.reasons(model)) == ("Be kind.", [])

    follow(world, steps)


def test_a_look_that_fails_takes_nothing_away() -> None:
    """What was read last is known while the API server does not answer; what is forbidden is said."""
    world, model = World(), naming()

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([model])
        world.kube.faults[LOOK] = BROKEN
        await asyncio.sleep(LONGEST * 3)
        assert (world.text(model), world.told) == ("Be kind.", [])
        world.kube.faults[LOOK] = Forbidden("list configmaps", status=403)
        await asyncio.sleep(LONGEST * 3)
        assert world.reasons(model) == [Trouble.FORBIDDEN]

    follow(world, steps)


def test_nobody_waits_long_for_an_api_server_that_does_not_answer() -> None:
    """It is said that nothing is known; nobody waits for it another time, and the model is told when something is."""
    world, model = World(), naming()

    async def steps() -> None:
        world.put("Be kind.")
        world.kube.faults[LOOK] = lambda: asyncio.sleep(3600)
        began = asyncio.get_running_loop().time()
        await world.sources.want([model])
        assert asyncio.get_running_loop().time() - began == FIRST_SECONDS
        assert (world.reasons(model), world.told) == ([Trouble.UNREADABLE], [])
        await world.sources.read([model])
        await world.sources.want([model])
        assert asyncio.get_running_loop().time() - began == FIRST_SECONDS
        del world.kube.faults[LOOK]
        await asyncio.sleep(2 * LONGEST)
        assert (world.text(model), world.told) == ("Be kind.", [{"llama"}])

    follow(world, steps)


def test_the_same_prompts_are_the_same_spec() -> None:
    """Whoever remembers what it has made of a spec knows it by its identity; another text is another spec."""
    world, model = World(), naming()

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([model])
        first = world.sources.fill(model, {}).model.spec
        assert world.sources.fill(model, {"house": "before"}).model.spec is first
        world.put("Be brief.")
        await asyncio.sleep(LONGEST)
        assert world.sources.fill(model, {}).model.spec != first

    follow(world, steps)


def test_each_who_fills_a_model_has_the_same_spec_again() -> None:
    """While a prompt is away the config and the pods go on with a last text each."""
    world, model = World(), naming()

    async def steps() -> None:
        await world.sources.want([model])
        lasts: list[dict[str, str]] = [{"house": "of the config"}, {"house": "of the pods"}]
        first = [world.sources.fill(model, last).model.spec for last in lasts]
        again = [world.sources.fill(model, last).model.spec for last in lasts]
        assert first[0] != first[1]
        assert [one is other for one, other in zip(first, again, strict=True)] == [True, True]

    follow(world, steps)


def test_what_nobody_names_is_not_looked_at() -> None:
    """A model that is gone takes its looks and its texts with it."""
    world, model = World(), naming()

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([model])
        await world.sources.want([])
        looks = world.kube.calls["list", "configmaps"]
        await asyncio.sleep(LONGEST * 3)
        assert world.kube.calls["list", "configmaps"] - looks <= 1
        assert world.text(model) is None

    follow(world, steps)


def test_a_further_key_is_read_at_once() -> None:
    """A model that names another key of a known ConfigMap waits for no look."""
    world = World()

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([naming()])
        world.put("Be brief.", key="more")
        await world.sources.want([naming(), naming("second", key="more")])
        assert world.text(naming("second", key="more")) == "Be brief."
        assert world.told == []

    follow(world, steps)


def test_keys_of_models_are_of_their_namespace() -> None:
    """A model reads no ConfigMap of another namespace."""
    world = World()
    elsewhere = naming(namespace="other")

    async def steps() -> None:
        world.put("Be kind.")
        await world.sources.want([elsewhere, naming()])
        assert (world.text(naming()), world.reasons(elsewhere)) == ("Be kind.", [Trouble.MISSING])

    follow(world, steps)
