"""Profiles: what is read of ConfigMaps, how one is merged under a manifest, what is said of those that cannot be."""

from typing import Any

import pytest

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.faults import find_doubts, find_faults
from capstan_operator.desired.model import build_model
from capstan_operator.desired.profiled import Given, ProfiledSpec, gifts_of, with_profile
from capstan_operator.desired.profiles import MOST_CHARACTERS, read_profiles
from capstan_operator.desired.template_changes import hash_of_pods, hash_of_spec
from support.plainmodels import SETTINGS, make_model, snapshot_of
from support.profiles import HOME, book_of, profiled, profiles_map

H100 = {
    "description": "eight of them to a node",
    "gpuResource": "example.com/h100",
    "nodeSelector": {"gpu": "h100", "zone": "a"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"a": 1}, "podAffinity": {"b": 1}},
    "runtimeClassName": "nvidia",
    "priorityClassName": "serving",
    "perGPU": {"cpu": "6500m", "memory": "90Gi", "sharedMemory": "8Gi"},
    "perReplica": {"cpu": "1", "memory": "512Mi"},
    "engines": {
        "vLLM": {
            "image": "example.com/vllm:1",
            "args": ["--enforce-eager", "--max-num-seqs=256", "--block-size", "32"],
        },
        "SGLang": {"env": [{"name": "A", "value": "sglang"}, {"name": "S", "value": "1"}]},
    },
    "env": [{"name": "A", "value": "profile"}, {"name": "B", "value": "profile"}],
}


def _spec(profile: Any = H100, **manifest: Any) -> LLMModelSpec:
    found = profiled(make_model(profile="h100", **manifest), profile).spec
    assert found is not None
    return found


def test_what_the_manifest_does_not_say_is_the_profiles() -> None:
    """Of a manifest that says nothing, everything; amounts are those of the replica and of its GPUs together."""
    spec = _spec(resources={"gpus": 4})
    ours = spec.resources
    assert (ours.gpuResource, ours.runtimeClassName, ours.priorityClassName) == (
        "example.com/h100",
        "nvidia",
        "serving",
    )
    assert (ours.cpu, ours.memory, ours.sharedMemory) == ("27", "369152Mi", "32Gi")
    assert ours.nodeSelector == {"gpu": "h100", "zone": "a"}
    assert [one.key for one in ours.tolerations] == ["gpu"]
    assert ours.affinity == H100["affinity"]
    assert spec.engine.image == "example.com/vllm:1"
    assert spec.engine.args == ("--enforce-eager", "--max-num-seqs=256", "--block-size", "32")
    assert [(one.name, one.value) for one in spec.engine.env] == [("A", "profile"), ("B", "profile")]


def test_what_the_manifest_says_wins() -> None:
    """Values, keys of maps, variables by name, options by option, and a version for an image."""
    resources = {
        "gpus": 2,
        "cpu": "3",
        "nodeSelector": {"zone": "b", "own": "c"},
        "affinity": {"nodeAffinity": {"mine": 1}},
        "tolerations": [{"key": "own", "operator": "Exists"}, {"key": "gpu", "operator": "Exists"}],
        "priorityClassName": "mine",
    }
    engine = {
        "version": "v0.12.0",
        "args": ["--no-enforce-eager", "--max_num_seqs", "8"],
        "env": [{"name": "B", "value": "mine"}, {"name": "C", "value": "mine"}],
    }
    spec = _spec(resources=resources, engine=engine)
    ours = spec.resources
    assert (ours.cpu, ours.memory, ours.priorityClassName) == ("3", "184832Mi", "mine")
    assert ours.nodeSelector == {"gpu": "h100", "zone": "b", "own": "c"}
    assert ours.affinity == {"nodeAffinity": {"mine": 1}, "podAffinity": {"b": 1}}
    assert [one.key for one in ours.tolerations] == ["gpu", "own"]
    assert (spec.engine.image, spec.engine.version) == (None, "v0.12.0")
    assert spec.engine.args == ("--block-size", "32", "--no-enforce-eager", "--max_num_seqs", "8")
    assert [(one.name, one.value) for one in spec.engine.env] == [("A", "profile"), ("B", "mine"), ("C", "mine")]


def test_a_value_that_is_the_default_counts_as_not_said() -> None:
    """An API server writes defaults into objects: nobody can tell them from what a user has written."""
    assert _spec(resources={"gpuResource": "nvidia.com/gpu"}).resources.gpuResource == "example.com/h100"
    assert _spec(resources={"gpuResource": "amd.com/gpu"}).resources.gpuResource == "amd.com/gpu"


@pytest.mark.parametrize(
    ("profile", "manifest"),
    [
        (["--max-model-len", "99"], {"serving": {"contextWindow": 4096}}),
        (["-tp", "8"], {"resources": {"gpus": 2}}),
        (["--gpu-memory-utilization=0.5"], {"engine": {"kvCache": {"memoryShare": "0.9"}}}),
        (["--no-enable-prefix-caching"], {"engine": {"kvCache": {"prefixCaching": True}}}),
    ],
)
def test_a_field_of_the_manifest_says_an_option_too(profile: list[str], manifest: dict[str, Any]) -> None:
    """What Capstan writes for a field of the manifest is not undone by an option of the profile."""
    spec = _spec({"engines": {"vLLM": {"args": [*profile, "--seed", "1"]}}}, **manifest)
    assert spec.engine.args == ("--seed", "1")
    assert _spec({"engines": {"vLLM": {"args": profile}}}).engine.args == tuple(profile)


@pytest.mark.parametrize(
    ("type_", "profile", "engine"),
    [
        ("vLLM", ["--trust-remote-code"], {"trustRemoteCode": False}),
        ("vLLM", ["--trust_remote_code"], {"trustRemoteCode": False}),
        ("SGLang", ["--trust-remote-code"], {"trustRemoteCode": False}),
        ("TGI", ["--trust-remote-code"], {"trustRemoteCode": False}),
        ("TGI", ["--dtype", "float16"], {"dtype": "auto"}),
        ("TGI", ["--kv-cache-dtype", "fp8_e4m3fn"], {"kvCache": {"dtype": "auto"}}),
        ("SGLang", ["--disable-radix-cache"], {"kvCache": {"prefixCaching": True}}),
    ],
)
def test_a_field_says_what_the_engine_does_by_itself(type_: str, profile: list[str], engine: dict[str, Any]) -> None:
    """Where Capstan has no word to write for a field of the manifest, a profile does not say the contrary of it."""
    given = {"engines": {type_: {"args": profile}}}
    assert _spec(given, engine={"type": type_, **engine}).engine.args == ()
    assert _spec(given, engine={"type": type_}).engine.args == tuple(profile)


def test_words_before_the_first_option_stay_first() -> None:
    """A profile's options come behind the words of the manifest's program, which are not taken for their values."""
    engine = {"type": "OpenAICompatible", "image": "own:1", "args": ["serve", "--a", "1"]}
    spec = _spec({"engines": {"OpenAICompatible": {"args": ["--quiet"]}}}, engine=engine)
    assert spec.engine.args == ("serve", "--quiet", "--a", "1")


def test_engines_get_their_own() -> None:
    """Of two variables of one name that of the type of engine counts; arguments of others go to nobody else."""
    spec = _spec(engine={"type": "SGLang"})
    assert [(one.name, one.value) for one in spec.engine.env] == [("B", "profile"), ("A", "sglang"), ("S", "1")]
    assert (spec.engine.args, spec.engine.image) == ((), None)


def test_it_is_told_what_a_profile_gives() -> None:
    """Every field that is in force otherwise than the manifest says it, and whether all of it is the profile's."""
    spec = _spec(resources={"gpus": 1, "cpu": "1", "nodeSelector": {"a": "b"}})
    assert gifts_of(spec)[:4] == (
        Given("engine.image"),
        Given("engine.args"),
        Given("engine.env"),
        Given("resources.gpuResource"),
    )
    assert Given("resources.nodeSelector", whole=False) in gifts_of(spec)
    assert not {one.field for one in gifts_of(spec)} & {"resources.cpu", "resources.gpus"}
    assert gifts_of(make_model().spec or LLMModelSpec.model_construct()) == ()


def test_the_pods_are_those_of_the_merged_spec_and_the_hash_is_the_manifests() -> None:
    """A profile is in the pods, and in the revision of a rollout; the hash of the spec is of what the user wrote."""
    plain = make_model(profile="h100", resources={"gpus": 1})
    merged = profiled(plain, H100)
    assert plain.spec is not None
    assert merged.spec is not None
    assert hash_of_spec(merged.spec) == hash_of_spec(plain.spec)
    assert hash_of_pods(merged.spec) != hash_of_pods(plain.spec)
    objects = build_model(merged, snapshot_of(merged), SETTINGS).objects
    pod = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "h100", "zone": "a"}
    assert {"key": "example.com/h100", "operator": "Exists"} in pod["tolerations"]


def test_a_name_that_no_profile_has_is_a_fault_of_the_manifest() -> None:
    """It says where profiles are kept, and which there are."""
    model = with_profile(make_model(profile="b200"), book_of(h100=H100, l4={}), where=f"the namespace '{HOME}'")
    [fault] = find_faults(model)
    assert str(fault) == (
        "`spec.profile` names the profile 'b200', which the namespace 'capstan-system' does not have:"
        " there are h100, l4"
    )
    [fault] = find_faults(with_profile(make_model(profile="b200"), read_profiles([]), where="it"))
    assert fault.message.endswith("there are no profiles")


def test_a_fault_of_the_profile_is_told_by_its_name() -> None:
    """What only the profile makes wrong is said of it and its ConfigMap; a fault of the manifest keeps its own path."""
    book = book_of(h100={"engines": {"vLLM": {"args": ["--seed", "1", "--api-key", "s3cret"]}}})
    [fault] = find_faults(
        with_profile(make_model(profile="h100", engine={"args": ["--block-size", "8"]}), book, where="")
    )
    assert fault.field == "spec.profile"
    assert "the profile 'h100' of the ConfigMap 'profiles'" in fault.message
    assert "`engine.args[2]` must not set --api-key" in fault.message
    assert "s3cret" not in fault.message
    wrong = with_profile(make_model(profile="h100", engine={"args": ["--api-key", "x"]}), book, where="")
    assert [one.field for one in find_faults(wrong)] == ["spec.engine.args[0]"]


def test_what_a_profile_makes_good_is_no_fault() -> None:
    """A manifest may rely on its profile, for the endpoint of a bucket as well; its other faults stay its own."""
    oss = {"source": "oss://models/llama"}
    region = {"env": [{"name": "AWS_ENDPOINT_URL", "value": "https://s3.oss-cn-hangzhou.aliyuncs.com"}]}
    plain = make_model(profile="h100", model=oss)
    assert [one.field for one in find_faults(plain)] == ["spec.engine.env"]
    assert find_faults(profiled(plain, region)) == ()
    assert [one.field for one in find_faults(profiled(plain, {}))] == ["spec.engine.env"]
    wrong = make_model(profile="h100", model=oss, engine={"args": ["--api-key", "x"]})
    given = {**region, "engines": {"vLLM": {"args": ["--seed", "1"]}}}
    assert [one.field for one in find_faults(profiled(wrong, given))] == ["spec.engine.args[0]"]


def test_what_comes_of_a_merge_keeps_the_bounds_of_a_spec() -> None:
    """Too many variables together are a fault that names the profile, and no exception."""
    many = [{"name": f"P{number}", "value": "1"} for number in range(60)]
    own = [{"name": f"M{number}", "value": "1"} for number in range(10)]
    model = with_profile(make_model(profile="h100", engine={"env": own}), book_of(h100={"env": many}), where="")
    [fault] = find_faults(model)
    assert "`engine.env` must have at most 64 items" in fault.message
    assert not isinstance(model.spec, ProfiledSpec)


def test_doubts_are_of_the_manifest_alone() -> None:
    """An argument that a profile gives moves no path of a warning."""
    model = profiled(make_model(profile="h100", engine={"args": ["--seed", "1", "--seed", "2"]}), H100)
    assert [one.field for one in find_doubts(model)] == ["spec.engine.args[2]"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodeSelector: [a]", "`nodeSelector` must be an object"),
        ("nodeSelectors: {}", "`nodeSelectors` is not a field"),
        ("perGPU: {memory: 5 GB}", "`perGPU.memory` must"),
        ("a: b: c", "line 1 is not YAML"),
        ("- a", "must be an object"),
        ("{}\n---\n{}", "must be one document"),
        ("engines: {vLLM: {args: [word]}}", "`engines.vLLM.args[0]` must be an option"),
        ("engines: {OpenAICompatible: {image: a/b}}", "`engines.OpenAICompatible.image` must not be set"),
        ("env: [{name: A, value: x}, {name: A, value: y}]", "`env[1]` repeats"),
        ("x" * (MOST_CHARACTERS + 1), "must have at most 65536 characters"),
    ],
)
def test_a_faulty_profile_says_what_is_wrong_and_costs_no_other_one(text: str, said: str) -> None:
    """A path and what is allowed; the profiles beside it, in the same ConfigMap, are as good as before."""
    book = read_profiles([profiles_map(bad=text, good=H100)])
    assert book.profiles["good"].profile is not None
    bad = book.profiles["bad"]
    assert bad.profile is None
    assert said in "; ".join(bad.faults)
    assert len(book.faults) == 1
    [fault] = find_faults(with_profile(make_model(profile="bad"), book, where=""))
    assert said in fault.message


def test_a_key_that_is_no_name_is_a_faulty_profile() -> None:
    """A ConfigMap takes keys that no `spec.profile` could name."""
    [fault] = read_profiles([{**profiles_map(), "data": {"H100.yaml": "{}"}}]).faults
    assert (fault.name, fault.config_map) == ("H100.yaml", "profiles")
    assert "its name must be" in fault.message


def test_of_two_of_one_name_the_older_counts() -> None:
    """A ConfigMap that comes later changes nothing, and it is said that its profile has no effect."""
    old = profiles_map("z", created="2026-01-01T00:00:00Z", l4={"gpuResource": "example.com/old"})
    new = profiles_map("a", created="2026-02-01T00:00:00Z", l4={"gpuResource": "example.com/new"}, a100={})
    book = read_profiles([new, old])
    found = book.profiles["l4"].profile
    assert found is not None
    assert (found.gpuResource, set(book.profiles)) == ("example.com/old", {"l4", "a100"})
    [fault] = book.faults
    assert fault.is_shadowed
    assert (
        str(fault)
        == "the profile 'l4' of the ConfigMap 'a': has no effect: the older ConfigMap 'z' has one of this name"
    )


def test_a_profile_without_a_word_gives_nothing() -> None:
    """An empty text, and an empty object, are profiles; the manifest is as it was."""
    for profile in ("", "# soon\n", {}):
        spec = _spec(profile, resources={"gpus": 1})
        assert gifts_of(spec) == ()


def test_the_hash_of_a_profile_is_of_what_a_type_of_engine_gets() -> None:
    """Words for people, and what other engines get, make no model's pods look changed."""
    one = book_of(l4={"engines": {"TGI": {"args": ["--x"]}}, "description": "a"}).profiles["l4"].hashes
    other = book_of(l4={"engines": {"TGI": {"args": ["--y"]}}, "description": "b"}).profiles["l4"].hashes
    assert [str(type_) for type_ in one if one[type_] != other[type_]] == ["TGI"]
