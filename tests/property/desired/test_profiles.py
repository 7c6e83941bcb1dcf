"""Whatever a manifest and a profile say: the manifest wins, nothing of the profile is lost that it does not say, and
merging once more changes nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.arguments import normalized, read_command_line
from capstan_operator.desired.profiled import ProfiledSpec
from support.plainmodels import make_model
from support.profiles import profiled

NAMES = st.sampled_from(["a", "b", "c", "d"])
AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["1", "2500m"]),
        "memory": st.sampled_from(["3Gi", "5M"]),
        "sharedMemory": st.just("1Gi"),
    },
)
ENV = st.dictionaries(NAMES.map(str.upper), st.sampled_from(["1", "2"]), max_size=4).map(
    lambda found: [{"name": name, "value": value} for name, value in found.items()]
)
TOLERATIONS = st.lists(
    st.builds(lambda key: {"key": key, "operator": "Exists"}, NAMES), max_size=3, unique_by=lambda one: one["key"]
)
OPTIONS = st.sampled_from(["--max-num-seqs", "--seed", "--max_model_len", "--block-size", "-tp", "--enforce-eager"])
WORDS = st.one_of(
    OPTIONS.flatmap(
        lambda flag: st.sampled_from([[flag], [flag, "1"], [f"{flag}=2"], [flag.replace("--enforce", "--no-enforce")]])
    )
)
ARGS = st.lists(WORDS, max_size=4).map(lambda found: [word for words in found for word in words])
PLACES = {
    "nodeSelector": st.dictionaries(NAMES, NAMES, max_size=3),
    "tolerations": TOLERATIONS,
    "affinity": st.dictionaries(st.sampled_from(["nodeAffinity", "podAffinity"]), st.just({"x": 1}), max_size=2),
    "gpuResource": st.sampled_from(["nvidia.com/gpu", "amd.com/gpu", "example.com/x"]),
    "runtimeClassName": NAMES,
    "priorityClassName": NAMES,
}
PROFILES = st.fixed_dictionaries(
    {},
    optional={
        **PLACES,
        "perGPU": AMOUNTS,
        "perReplica": AMOUNTS,
        "env": ENV,
        "engines": st.fixed_dictionaries(
            {}, optional={"vLLM": st.fixed_dictionaries({}, optional={"args": ARGS, "env": ENV, "image": NAMES})}
        ),
    },
)
MANIFESTS = st.fixed_dictionaries(
    {},
    optional={
        "resources": st.fixed_dictionaries(
            {},
            optional={
                **PLACES,
                "gpus": st.integers(0, 4),
                "cpu": st.sampled_from(["7", "100m"]),
                "memory": st.just("9Gi"),
            },
        ),
        "engine": st.fixed_dictionaries({}, optional={"args": ARGS, "env": ENV, "version": st.just("v1")}),
        "serving": st.fixed_dictionaries({}, optional={"contextWindow": st.just(2048)}),
    },
)


def _merged(manifest: dict[str, Any], profile: dict[str, Any]) -> ProfiledSpec:
    model = make_model(profile="p", **manifest)
    assert model.spec is not None, model.faults
    found = profiled(model, profile).spec
    assert isinstance(found, ProfiledSpec)
    return found


def _flags(args: tuple[str, ...]) -> list[str]:
    return [normalized(one.flag) for one in read_command_line(args).options]


@given(MANIFESTS, PROFILES)
def test_the_manifest_wins(manifest: dict[str, Any], profile: dict[str, Any]) -> None:
    """Every value, key, variable and argument that a manifest says is in force."""
    spec = _merged(manifest, profile)
    own, merged = spec.own, spec
    for name in ("cpu", "memory", "sharedMemory", "runtimeClassName", "priorityClassName"):
        if (said := getattr(own.resources, name)) is not None:
            assert getattr(merged.resources, name) == said
    if own.resources.gpuResource != "nvidia.com/gpu":
        assert merged.resources.gpuResource == own.resources.gpuResource
    assert own.resources.nodeSelector.items() <= merged.resources.nodeSelector.items()
    assert (own.resources.affinity or {}).items() <= (merged.resources.affinity or {}).items()
    assert set(own.resources.tolerations) <= set(merged.resources.tolerations)
    assert set(own.engine.env) <= set(merged.engine.env)
    assert len({one.name for one in merged.engine.env}) == len(merged.engine.env)
    assert merged.engine.args[len(merged.engine.args) - len(own.engine.args) :] == own.engine.args
    added = _flags(merged.engine.args[: len(merged.engine.args) - len(own.engine.args)])
    assert not set(added) & set(_flags(own.engine.args))
    assert (merged.engine.version, merged.serving) == (own.engine.version, own.serving)
    assert own.engine.version is None or merged.engine.image is None


@given(MANIFESTS, PROFILES)
def test_nothing_of_a_profile_is_lost_that_the_manifest_does_not_say(
    manifest: dict[str, Any], profile: dict[str, Any]
) -> None:
    """Each of its keys, variables, tolerations and options is there, unless the manifest has one of that name."""
    spec = _merged(manifest, profile)
    gave = spec.known.profile
    assert gave is not None
    own, merged = spec.own, spec
    for name in ("runtimeClassName", "priorityClassName"):
        assert getattr(own.resources, name) or getattr(merged.resources, name) == getattr(gave, name)
    assert set(gave.nodeSelector) <= set(merged.resources.nodeSelector)
    assert set(gave.affinity or {}) <= set(merged.resources.affinity or {})
    assert set(gave.tolerations) <= set(merged.resources.tolerations)
    engine = gave.engines.vLLM
    names = {one.name for one in (*gave.env, *(engine.env if engine else ()))}
    assert names <= {one.name for one in merged.engine.env}
    for one in engine.env if engine else ():
        assert one in merged.engine.env or one.name in {mine.name for mine in own.engine.env}
    written = {"--max-model-len"} if own.serving.contextWindow else set()
    written |= {"-tp"} if own.resources.gpus > 1 else set()
    for flag in _flags(engine.args if engine else ()):
        assert flag in _flags(merged.engine.args) or flag in written


@given(MANIFESTS, PROFILES)
def test_merging_once_more_changes_nothing(manifest: dict[str, Any], profile: dict[str, Any]) -> None:
    """A spec that says all that a profile gave gets the same of it again."""
    once = LLMModelSpec.model_validate(_merged(manifest, profile).model_dump(mode="json", exclude_none=True))
    said = once.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    said.pop("profile")
    again = _merged(said, profile)
    assert again.model_dump() == once.model_dump()
