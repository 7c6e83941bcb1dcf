"""Profiles as the operator lists them: what is faulty, missing or away for a moment takes nothing from a model."""

import asyncio
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.model import build_model
from capstan_operator.desired.profiled import ProfiledSpec
from capstan_operator.desired.types import Action
from capstan_operator.kube.errors import KubeError, Unavailable
from capstan_operator.loaders.model_list import ModelList
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.loaders.profiles import MOMENT, Profiles
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import ObjectKey
from fakes.kube import FakeKube, Fault
from support.llmmodels import simulated
from support.plainmodels import SETTINGS, deployment_of, snapshot_of
from support.profiles import HOME, profiles_map

KEY = ObjectKey("team", "one")
L4 = {"nodeSelector": {"gpu": "l4"}}
AWAY = Unavailable("no answer", status=503)


class World:
    """An install with one model that names a profile, a plain one, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changed: list[set[str]] = []
        self.told: list[str] = []
        self.metrics = Metrics()
        self.kube = FakeKube(LLM_MODELS)
        self.put("one", profile="l4")
        self.put("plain")
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a new process does."""
        self.profiles = Profiles(
            self.kube,
            namespace=HOME,
            tell=lambda _, reason, note: self.told.append(f"{reason}: {note}"),
            on_change=lambda names: self.changed.append(set(names)),
            metrics=self.metrics,
            clock=lambda: self.now,
        )
        parser = ModelParser()
        self.list = ModelList(self.kube, parser, profiles=self.profiles, clock=lambda: self.now)

    def put(self, name: str, generation: int = 1, **spec: Any) -> None:
        """Make or change a model."""
        manifest = simulated(name, "team")
        manifest["metadata"] |= {"uid": name, "generation": generation}
        manifest["spec"] |= spec
        self.kube.put(manifest)

    def away(self, error: Fault | None = AWAY) -> None:
        """Let lists of ConfigMaps fail, or be answered again."""
        for name in ("", "*"):
            if error:
                self.kube.faults["list", CONFIG_MAPS.plural, HOME, name] = error
            else:
                self.kube.faults.pop(("list", CONFIG_MAPS.plural, HOME, name), None)

    async def all(self) -> dict[str, Model]:
        """Give all models, a while later."""
        self.now += MOMENT + 1
        return {one.key.name: one for one in (await self.list.all()).models}

    async def one(self) -> Model:
        """Give the model that names a profile, a while later, as its own reconcile reads it."""
        self.now += MOMENT + 1
        found = (await self.list.find([KEY]))[KEY]
        assert not isinstance(found, KubeError)
        return found


def _selector(model: Model) -> dict[str, str]:
    assert model.spec is not None
    return model.spec.resources.nodeSelector


async def test_every_reader_gets_the_merged_spec() -> None:
    """The list of all models and a look at one give the same spec object, until the profile or the manifest changes."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    first = await world.one()
    assert _selector(first) == {"gpu": "l4"}
    assert (await world.all())["one"].spec is first.spec
    assert find_faults(first) == ()
    world.kube.put(profiles_map(l4=L4, other={}))
    assert (await world.one()).spec is first.spec
    world.put("one", 2, profile="l4", replicas=2)
    second = await world.one()
    assert second.spec is not first.spec
    assert isinstance(second.spec, ProfiledSpec)
    assert (second.spec.replicas, second.spec.own.resources.nodeSelector) == (2, {})


async def test_a_profile_may_make_a_manifest_good() -> None:
    """What a manifest lacks alone is no fault with its profile; a fault that stays is the manifest's own."""
    world = World()
    oss = {"model": {"source": "oss://models/llama"}, "engine": {"type": "vLLM"}}
    endpoint = {"name": "AWS_ENDPOINT_URL", "value": "https://s3.oss-cn-hangzhou.aliyuncs.com"}
    world.kube.put(profiles_map(l4={"env": [endpoint]}, bare={}))
    world.put("one", 2, profile="l4", **oss)
    assert find_faults(await world.one()) == ()
    for generation, name in ((3, "bare"), (4, "nowhere")):
        world.put("one", generation, profile=name, **oss)
        assert [one.field for one in find_faults(await world.one())] == ["spec.engine.env"]


async def test_nothing_is_listed_for_models_without_a_profile() -> None:
    """Who uses none pays nothing."""
    world = World()
    world.put("one", 2)
    await world.all()
    await world.one()
    assert world.kube.calls["list", CONFIG_MAPS.plural] == 0


async def test_a_change_is_told_by_the_names_of_profiles() -> None:
    """Only of those whose content is another one, whichever way they changed; nothing is told of the first look."""
    world = World()
    world.kube.put(profiles_map(l4=L4, a100={}))
    await world.all()
    world.kube.put(profiles_map(l4={"nodeSelector": {"gpu": "new"}}, a100={}))
    assert _selector((await world.all())["one"]) == {"gpu": "new"}
    world.kube.put(profiles_map(l4={"nodeSelector": {"gpu": "new"}}, h100={}))
    await world.all()
    world.kube.drop(CONFIG_MAPS, "profiles", HOME)
    await world.all()
    assert world.changed == [{"l4"}, {"a100", "h100"}, {"l4", "h100"}]
    assert world.list.naming(frozenset({"l4"})) == [KEY]


async def test_a_list_is_used_again_for_a_moment_unless_a_watch_tells() -> None:
    """Batches of models cost one list of profiles; what a watch has told of is seen at once."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    await world.list.find([KEY])
    world.kube.put(profiles_map(l4={"nodeSelector": {"gpu": "new"}}))
    found = (await world.list.find([KEY]))[KEY]
    assert not isinstance(found, KubeError)
    assert _selector(found) == {"gpu": "l4"}
    world.profiles.suspect()
    found = (await world.list.find([KEY]))[KEY]
    assert not isinstance(found, KubeError)
    assert _selector(found) == {"gpu": "new"}


async def test_what_was_read_stays_while_config_maps_are_away() -> None:
    """The models are as they were, and a look that works again sees what has changed meanwhile."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    before = await world.one()
    world.away()
    world.kube.put(profiles_map(l4={"nodeSelector": {"gpu": "new"}}))
    assert (await world.one()).spec is before.spec
    world.away(None)
    assert _selector(await world.one()) == {"gpu": "new"}


async def test_nobody_decides_without_profiles_that_were_never_read() -> None:
    """A process that begins while ConfigMaps are away gives an error for the models that name one, and for no other. A
    list of all has those apart, so that everybody else's models are served, also in the same namespace; one that is on
    its way out is not kept for its profile."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    world.away()
    plain = ObjectKey("team", "plain")
    found = await world.list.find([KEY, plain])
    assert isinstance(found[KEY], KubeError)
    assert not isinstance(found[plain], KubeError)
    leaving = simulated("leaving", "team", profile="l4")
    leaving["metadata"] |= {"uid": "leaving", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    world.kube.put(leaving)
    world.now += MOMENT + 1
    listed = await world.list.all()
    assert {model.key.name for model in listed.models} == {"plain", "leaving"}
    assert [model.key for model in listed.unread] == [KEY]
    assert not listed.unreadable
    assert not listed.unknown
    world.away(None)
    assert _selector((await world.all())["one"]) == {"gpu": "l4"}
    assert not (await world.list.all()).unread
    assert world.changed == [{"l4"}]


async def _cut_off() -> None:
    raise asyncio.CancelledError


async def test_a_look_that_was_cut_off_does_not_count_as_one() -> None:
    """What a watch has told of is seen by the next look, when a deadline has ended the one that was to see it."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    await world.one()
    world.kube.put(profiles_map(l4={"nodeSelector": {"gpu": "new"}}))
    world.profiles.suspect()
    world.away(_cut_off)
    with pytest.raises(asyncio.CancelledError):
        await world.list.find([KEY])
    world.away(None)
    found = (await world.list.find([KEY]))[KEY]
    assert not isinstance(found, KubeError)
    assert _selector(found) == {"gpu": "new"}


@pytest.mark.parametrize("bad", [None, "nodeSelector: 5"])
async def test_what_serves_is_held_while_its_profile_is_missing_or_faulty(bad: str | None) -> None:
    """Nothing is written and nothing goes, by a process that knew the profile and by one that begins anew; what is
    wrong is a fault of the model. When the profile is there again everything is as before."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    good = await world.one()
    live = deployment_of(good)
    if bad is None:
        world.kube.drop(CONFIG_MAPS, "profiles", HOME)
    else:
        world.kube.put(profiles_map(l4=bad))
    for restarted in (False, True):
        if restarted:
            world.restart()
        model = await world.one()
        desired = build_model(model, snapshot_of(model, live), SETTINGS)
        assert [one.action for one in desired.wanted] == [Action.HOLD]
        assert [fault.field for fault in desired.faults] == ["spec.profile"]
        assert "'l4'" in desired.faults[0].message
    world.kube.put(profiles_map(l4=L4))
    again = await world.one()
    assert (
        build_model(again, snapshot_of(again, live), SETTINGS).pod_hash
        == deployment_of(good)["spec"]["template"]["metadata"]["labels"]["capstan.dev/pod-hash"]
    )


async def test_a_new_model_with_an_unknown_profile_is_refused() -> None:
    """It owns nothing, and says which profiles there are."""
    world = World()
    world.kube.put(profiles_map(a100={}))
    model = await world.one()
    desired = build_model(model, snapshot_of(model), SETTINGS)
    assert desired.wanted == ()
    assert "there are a100" in desired.faults[0].message


async def test_faulty_profiles_are_told_once_and_counted() -> None:
    """An Event names the ConfigMap, the profile and the field, and never a value."""
    world = World()
    world.kube.put(profiles_map(l4=L4, bad="env: [{name: A, value: s3cret, more: 1}]"))
    await world.all()
    await world.all()
    [told] = world.told
    assert told.startswith("ProfilesFaulty: the profile 'bad' of the ConfigMap 'profiles': `env[0].more`")
    assert "s3cret" not in told
    assert world.metrics.profiles.labels("usable")._value.get() == 1
    assert world.metrics.profiles.labels("faulty")._value.get() == 1


async def test_a_manifest_that_is_faulty_by_itself_keeps_its_own_faults() -> None:
    """Its profile makes nothing of them good, and nothing is said of that."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    world.put("one", 2, profile="l4", engine={"type": "vLLM", "args": ["--api-key", "x"]}, model={"source": "hf://a/b"})
    model = await world.one()
    assert [fault.field for fault in find_faults(model)] == ["spec.engine.args[0]"]


async def test_nothing_is_kept_of_models_that_are_gone() -> None:
    """What was merged goes with the model: a list without it is enough."""
    world = World()
    world.kube.put(profiles_map(l4=L4))
    for number in range(3):
        world.put(f"passing-{number}", profile="l4")
        await world.all()
        world.kube.drop(LLM_MODELS, f"passing-{number}", "team")
    await world.all()
    assert world.profiles.kept == 1
