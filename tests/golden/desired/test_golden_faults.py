"""What people read about manifests that cannot be built, are hardly meant, or get less than they ask for.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/desired
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.faults import find_doubts, find_faults
from capstan_operator.desired.name_rules import NameRules
from support.plainmodels import as_deleting, make_model

EXPECTED = Path(__file__).parent / "faults.yaml"
Scene = Callable[[], list[str]]
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
IMAGE = {"image": "registry.example.com/server:1"}
OWN = {"type": "vLLM", "version": "v0.18.0"}
ENGINE: dict[str, Any] = {"name": "engine"}


def told(*args: str, type_: str = "vLLM", engine: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    """Give what is said of an engine with these arguments."""
    model = make_model(engine={"type": type_, "args": list(args), **(engine or {})}, **spec)
    return [str(one) for one in find_faults(model)] or [f"(doubt) {one}" for one in find_doubts(model)]


def patched(spec: dict[str, Any] | None = None, **metadata: Any) -> list[str]:
    """Give what is said of a patch of the pod template."""
    return told(engine=OWN, template={"spec": spec or {}, "metadata": metadata})


def container(**patch: Any) -> list[str]:
    """Give what is said of a patch of the engine's container."""
    return patched({"containers": [{**ENGINE, **patch}]})


def worker(**patch: Any) -> list[str]:
    """Give what is said of a patch of the worker's container."""
    return patched({"initContainers": [{"name": "worker", **patch}]})


ARGUMENTS: dict[str, Scene] = {
    "an option of ours": lambda: told("--seed", "1", "--port", "9000"),
    "an option of ours, in another spelling": lambda: told("--served_model", "mine"),
    "a family of options": lambda: told("--ssl-keyfile", "/x"),
    "an option that may be said": lambda: told("-p", "8000"),
    "our name for the model": lambda: told("--served-model-name", "llama"),
    "white space": lambda: told(" --seed", "1"),
    "two words in one": lambda: told("--seed 1"),
    "a value alone": lambda: told("8192"),
    "a value after a switch": lambda: told("--trust_remote_code", "8192"),
    "a value after a switch that says no": lambda: told("--no_enable_prefix_caching", "4"),
    "two dashes": lambda: told("--seed", "1", "--", "x"),
    "an option without its value": lambda: told("--max-model-len"),
    "an unknown variable in an option's name": lambda: told(
        "--po$(P)=1", engine={"env": [{"name": "P", "valueFrom": SECRET}]}
    ),
    "an unknown variable alone": lambda: told("$(P)", engine={"env": [{"name": "P", "valueFrom": SECRET}]}),
    "another port": lambda: told("--metrics-port", "9000", "--seed", "8000"),
    "our port": lambda: told("--seed", "1", "--metrics-port", "8000"),
    "the worker's port": lambda: told("--metrics_port=8001"),
    "more GPUs than there are": lambda: told("-tp", "4", resources={"gpus": 2}),
    "no number of GPUs": lambda: told("-tp", "1000000000", resources={"gpus": 2}),
    "a variable of ours": lambda: told(
        engine={"env": [{"name": "A", "value": "b"}, {"name": "VLLM_API_KEY", "value": "x"}]}
    ),
    "adapters by option": lambda: told("--seed", "1", "--lora-modules", "x=y"),
    "an option three times": lambda: told("--seed", "1", "--seed", "2", "--seed", "3"),
    "an option that may be repeated": lambda: told("--middleware", "a", "--middleware", "b"),
    "a file of options": lambda: told("--seed", "1", "--config", "/x.yaml"),
    "a file of options of another server": lambda: told("--config", "/x", type_="OpenAICompatible", engine=IMAGE),
    "a window that is too small": lambda: told("--seed", "1", "--max-model-len", "10", serving={"contextWindow": 100}),
    "a window of nothing": lambda: told("--max-model-len", "0"),
    "one that begins like a family": lambda: told("--sslfoo", "x"),
    "a bucket of Google for a release that reads none": lambda: told(
        model={"source": "gs://bucket/x"}, engine={"version": "v0.11.0"}
    ),
    "a bucket of Alibaba without an endpoint": lambda: told(model={"source": "oss://bucket/x"}),
    "a method that no engine has": lambda: told(engine={"quantization": "fp9"}),
    "a field that an option takes the place of": lambda: told("--dtype", "half", engine={"dtype": "bfloat16"}),
    "guesses for a release that makes none": lambda: told(
        engine={"version": "v0.7.3", "speculative": {"method": "NGram", "tokens": 3}}
    ),
    "guesses in a way that a release does not know": lambda: told(
        engine={"version": "v0.10.2", "speculative": {"method": "MTP", "tokens": 1}}
    ),
    "guesses by a draft model in between": lambda: told(
        engine={"version": "v0.12.0", "speculative": {"method": "DraftModel", "model": "hf://a/b", "tokens": 3}}
    ),
    "a parser of thoughts for a release that wants two options": lambda: told(
        engine={"version": "v0.8.5", "reasoningParser": "qwen3"}
    ),
    "a bucket for an engine that reads none": lambda: told(type_="TGI", model={"source": "s3://bucket/x"}),
    "an adapter in a bucket": lambda: told(adapters=[{"name": "x", "source": "s3://bucket/x"}]),
    "adapters for a server of the user": lambda: told(
        type_="OpenAICompatible", engine=IMAGE, adapters=[{"name": "x", "source": "hf://a/x"}]
    ),
    "an adapter with a name of the model": lambda: told(
        model={"aliases": ["z"]},
        adapters=[{"name": name, "source": "hf://a/x", "servedName": name} for name in ("x", "z", "llama", "x")],
    ),
    "an adapter that is called like an alias": lambda: told(
        model={"aliases": ["llama:x"]}, adapters=[{"name": "x", "source": "hf://a/x"}]
    ),
    "an adapter that is called like another one": lambda: told(
        adapters=[{"name": "x", "source": "hf://a/x"}, {"name": "y", "source": "hf://a/y", "servedName": "llama:x"}]
    ),
    "white space for another server": lambda: told("x", " --port", "--seed 1", type_="OpenAICompatible", engine=IMAGE),
    "a short option with its value": lambda: told("-p8", type_="TGI"),
}
PATCHES: dict[str, Scene] = {
    "a label of ours": lambda: patched(labels={"capstan.dev/model": "other", "team": "a"}),
    "an annotation of ours": lambda: patched(annotations={"team": "a", "capstan.dev/anything": "x"}),
    "a label of ours, as it is": lambda: patched(labels={"capstan.dev/track": "stable"}),
    "labels that are none": lambda: patched(labels={"a": 1}),
    "the engine's command": lambda: container(command=["sh"]),
    "the engine's arguments": lambda: container(args=["--x"]),
    "the engine's port": lambda: container(ports=[{"containerPort": 8000, "name": "web"}]),
    "the engine's port, moved": lambda: container(
        ports=[{"containerPort": 8000, "$patch": "delete"}, {"containerPort": 9000, "name": "http"}]
    ),
    "the engine's port, by UDP": lambda: container(ports=[{"containerPort": 8000, "protocol": "UDP"}]),
    "the engine's port, said in full": lambda: container(ports=[{"containerPort": 8000, "protocol": "TCP"}]),
    "the engine's port, by what is usual": lambda: container(ports=[{"containerPort": 8000, "protocol": None}]),
    "the engine's hook": lambda: container(lifecycle={"$patch": "delete"}),
    "the engine's probe": lambda: container(readinessProbe=None),
    "the engine's variables": lambda: container(env=[{"name": "VLLM_API_KEY", "value": "x"}]),
    "variables from elsewhere": lambda: container(envFrom=[{"secretRef": {"name": "s"}}, {"secretRef": {"name": "t"}}]),
    "the engine itself": lambda: container(**{"$patch": "delete"}),
    "the worker itself": lambda: worker(**{"$patch": "delete"}),
    "the worker's command": lambda: worker(command=["x"]),
    "the worker's port": lambda: worker(ports=[{"containerPort": 8001, "name": "other"}]),
    "the worker's variables": lambda: worker(env=[{"name": "CAPSTAN_DRAIN_TOKEN", "value": "x"}]),
    "a stranger on our port": lambda: patched(
        {"containers": [{"name": "x"}, {"name": "a", "ports": [{"containerPort": 8001}]}]}
    ),
    "no directive": lambda: patched({"$nothing": 1}),
}


def judged(*models: Model, rules: NameRules | None = None) -> list[str]:
    """Give what the verdicts on some models say."""
    compiled = compile_gateway(models, **({"rules": rules} if rules else {}))
    found = compiled.verdicts.items()
    return [f"{key.name}: {verdict.reason}: {verdict.message}" for key, verdict in found if verdict.message]


def router(*members: str, name: str = "r", **spec: Any) -> Model:
    """Give a router."""
    return make_model(name, router={"members": [{"name": member} for member in members]}, **spec)


def cascade(*members: str, name: str = "c", judge: str | None = None, **spec: Any) -> Model:
    """Give a cascade, with a judge if there is one."""
    estimator = {"estimator": {"type": "Judge", "judge": {"name": judge}}} if judge else {}
    return make_model(name, cascade={"members": [{"name": member} for member in members], **estimator}, **spec)


A, B = make_model("a"), make_model("b")
EMBEDS = make_model("e", model={"task": "embed"})
FAULTY = make_model("f", replicas=-1)
VERDICTS: dict[str, Scene] = {
    "two that are served": lambda: judged(A, B),
    "one with two faults": lambda: judged(make_model("a", replicas=-1, serving={"weight": -1})),
    "one that goes": lambda: judged(as_deleting(A)),
    "a name that is taken": lambda: judged(
        A, make_model("b", model={"servedName": "a"}, created="2026-02-01T00:00:00Z")
    ),
    "a name that is reserved": lambda: judged(make_model("auto")),
    "names that are not allowed": lambda: judged(A, rules=NameRules(allowed={"team": ("x-*", "y")})),
    "no name that is allowed": lambda: judged(A, rules=NameRules(allowed={"team": ()})),
    "a router of nobody": lambda: judged(router("gone")),
    "a router that lacks some": lambda: judged(A, EMBEDS, FAULTY, as_deleting(B), router("a", "b", "e", "f", "gone")),
    "a router of routers": lambda: judged(A, router("a", name="q"), router("a", "q")),
    "a router of a conflict": lambda: judged(
        A, make_model("x", model={"servedName": "a"}, created="2026-02-01T00:00:00Z"), router("a", "x")
    ),
    "a cascade of cascades": lambda: judged(A, B, cascade("a", "b", name="d"), cascade("a", "d")),
    "a cascade of routers": lambda: judged(A, router("a", name="q"), cascade("a", "q")),
    "a cascade without its judge": lambda: judged(A, B, cascade("a", "b", judge="gone")),
    "a cascade whose judge writes nothing": lambda: judged(A, B, EMBEDS, cascade("a", "b", judge="e")),
    "fallbacks that are not there": lambda: judged(make_model("a", serving={"fallbacks": ["b", "gone"]}), B),
    "a fallback of somebody else": lambda: judged(
        make_model("a", serving={"fallbacks": ["o"]}), make_model("o", namespace="other")
    ),
    "everything at once": lambda: judged(
        A, B, router("a", "gone", model={"aliases": ["b"]}, serving={"fallbacks": ["nobody"]})
    ),
}
SCENES = {"arguments": ARGUMENTS, "patches": PATCHES, "verdicts": VERDICTS}


def test_what_people_read_is_what_was_reviewed() -> None:
    """Each manifest is told what was reviewed, word by word."""
    said = {part: {name: scene() for name, scene in scenes.items()} for part, scenes in SCENES.items()}
    written = yaml.safe_dump(said, sort_keys=False, width=1000)
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(written)
    assert yaml.safe_load(written) == yaml.safe_load(EXPECTED.read_text())


@pytest.mark.parametrize("name", [*ARGUMENTS, *PATCHES])
def test_a_fault_says_where_it_is(name: str) -> None:
    """By the path of a field, at the beginning."""
    said = {**ARGUMENTS, **PATCHES}[name]()
    assert all(one.removeprefix("(doubt) ").startswith("`spec.") for one in said)
