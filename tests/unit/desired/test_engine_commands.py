"""How each engine is started: our options from the spec, and none that the user gives in any of its spellings."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.desired.engine import EngineContainer, build_engine
from capstan_operator.settings import BuildSettings
from support.plainmodels import make_model

SETTINGS = BuildSettings()
ADAPTERS = [{"name": "one", "source": "hf://a/one"}, {"name": "two", "source": "pvc://claim/two"}]
WINDOW: dict[str, Any] = {"contextWindow": 4096}


def engine(type_: str, *args: str, settings: BuildSettings = SETTINGS, **spec: Any) -> EngineContainer:
    """Give the container of an engine that the user gives these arguments."""
    model = make_model(engine={"type": type_, "args": list(args), **spec.pop("engine", {})}, **spec)
    assert model.spec
    return build_engine(model, model.spec, settings)


SGLANG = (
    *("--model-path", "example/model", "--served-model-name", "llama", "--host", "0.0.0.0", "--port", "8000"),
    *("--enable-metrics", "--enable-cache-report"),
)


def test_sglang_is_told_all_that_the_spec_says() -> None:
    """Sizes of parallelism, revision, window and adapters; nothing of it where the spec says nothing."""
    assert engine("SGLang").args == SGLANG
    assert engine("SGLang", resources={"gpus": 2}).args == (*SGLANG, "--tp-size", "2")
    whole = engine(
        "SGLang",
        model={"revision": "r1"},
        resources={"gpus": 4},
        parallelism={"pipeline": 2},
        serving=WINDOW,
        adapters=ADAPTERS,
    )
    assert whole.args == (
        *(*SGLANG, "--tp-size", "2", "--pp-size", "2", "--revision", "r1", "--context-length", "4096"),
        *("--enable-lora", "--lora-paths", "one=a/one", "two=/mnt/claims/claim/two"),
    )
    assert "--is-embedding" in engine("SGLang", model={"task": "embed"}).args


VLLM = ("example/model", "--served-model-name", "llama")
AT = ("--host", "0.0.0.0", "--port", "8000")
OWN = {"version": "v0.18.0"}


def test_vllm_is_told_all_that_the_spec_says() -> None:
    """In an image of its own; what the user says stays as it is, at the end."""
    bare = engine("vLLM", engine=OWN)
    assert bare.args == (*VLLM, *AT, "--enable-prompt-tokens-details")
    assert bare.env == {"VLLM_NO_USAGE_STATS": "1"}
    whole = engine(
        "vLLM",
        *("--host", "0.0.0.0", "--seed", "1"),
        engine=OWN,
        model={"revision": "r1"},
        resources={"gpus": 4},
        parallelism={"pipeline": 2},
        serving=WINDOW,
        adapters=ADAPTERS,
    )
    assert whole.args == (
        *(*VLLM, "--port", "8000", "--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"),
        *("--enable-prompt-tokens-details", "--revision", "r1", "--max-model-len", "4096"),
        *("--enable-lora", "--lora-modules", "one=a/one", "two=/mnt/claims/claim/two"),
        *("--host", "0.0.0.0", "--seed", "1"),
    )


def test_vllm_is_told_once_which_model_it_is_and_what_it_does() -> None:
    """The path is an argument without an option, and an older option says what two of the newer ones do."""
    assert engine("vLLM", "--model", "example/model", engine=OWN).args[:2] == VLLM[1:]
    assert "--runner" in engine("vLLM", engine=OWN, model={"task": "embed"}).args
    older = engine("vLLM", "--task", "embed", engine=OWN, model={"task": "embed"}).args
    assert not {"--runner", "--convert"} & set(older)


TGI = ("--model-id", "example/model", "--hostname", "0.0.0.0", "--port", "8000")


def test_tgi_is_told_all_that_the_spec_says() -> None:
    """Adapters in a variable, and everything else in options; nothing of it where the spec says nothing."""
    bare = engine("TGI")
    assert bare.args == TGI
    assert bare.env == {"HUGGINGFACE_HUB_CACHE": "/var/lib/capstan/weights/huggingface/hub"}
    whole = engine("TGI", model={"revision": "r1"}, resources={"gpus": 2}, serving=WINDOW, adapters=ADAPTERS)
    assert whole.args == (*TGI, "--revision", "r1", "--num-shard", "2", "--max-total-tokens", "4096")
    assert whole.env["LORA_ADAPTERS"] == "one=a/one,two=/mnt/claims/claim/two"


def test_the_simulator_is_told_its_window_and_names() -> None:
    """It has no weights, and is to look like a model that has."""
    ours = ("simulator", "--model", "llama", "--task", "chat", "--port", "8000", "--host", "0.0.0.0")
    told = engine("Simulator", serving=WINDOW, adapters=ADAPTERS)
    assert told.args == (
        *(*ours, "--worker-port", "8001", "--grace-seconds", "630"),
        *("--alias", "one", "--alias", "two", "--context-window", "4096"),
    )
    assert "--context-window" not in engine("Simulator").args


@pytest.mark.parametrize(
    ("type_", "given", "ours"),
    [
        ("SGLang", "--model", "--model-path"),
        ("SGLang", "--tp", "--tp-size"),
        ("SGLang", "--tensor-parallel-size", "--tp-size"),
        ("SGLang", "--pp", "--pp-size"),
        ("SGLang", "--pipeline-parallel-size", "--pp-size"),
        ("TGI", "-p", "--port"),
        ("vLLM", "-tp", "--tensor-parallel-size"),
        ("vLLM", "-pp", "--pipeline-parallel-size"),
    ],
)
def test_an_option_of_the_user_takes_the_place_of_ours_in_any_spelling(type_: str, given: str, ours: str) -> None:
    """An engine that was told twice would refuse, or take the wrong one."""
    sizes: dict[str, Any] = {"resources": {"gpus": 4}, "parallelism": {"pipeline": 2} if type_ != "TGI" else {}}
    assert ours in engine(type_, **sizes).args
    args = engine(type_, given, "2", **sizes).args
    assert ours not in args
    assert args[-2:] == (given, "2")


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("registry.example.com:5000/org/sglang:v0", "registry.example.com:5000/org/sglang:v9"),
        ("org/sglang@sha256:0123", "org/sglang:v9"),
        ("org/sglang:v0@sha256:0123", "org/sglang:v9"),
        ("sglang:v0", "sglang:v9"),
    ],
)
def test_a_version_takes_the_place_of_the_tag_alone(image: str, pinned: str) -> None:
    """Whatever else the default image's name has in it; without a version it stays, and an image of the user wins."""
    settings = replace(SETTINGS, sglang_image=image)
    assert engine("SGLang", settings=settings).image == image
    assert engine("SGLang", settings=settings, engine={"version": "v9"}).image == pinned
    assert engine("SGLang", settings=settings, engine={"image": "own:1"}).image == "own:1"


def test_a_server_of_the_user_is_told_where_the_weights_are() -> None:
    """In a variable, because nobody knows its options; where there are none it is told nothing."""
    own = {"image": "own:1"}
    assert engine("OpenAICompatible", engine=own).env == {"CAPSTAN_MODEL_PATH": "example/model"}
    assert engine("OpenAICompatible", engine=own, model={"source": None}).env == {}
