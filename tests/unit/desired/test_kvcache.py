"""`spec.engine.kvCache` in the words of each engine."""

import json
from typing import Any

import pytest

from capstan_operator.desired.engine import EngineContainer, build_engine, sidecar_arguments, simulator_arguments
from capstan_operator.desired.faults import find_faults
from capstan_operator.settings import BuildSettings
from support.plainmodels import make_model

WHOLE: dict[str, Any] = {"prefixCaching": True, "memoryShare": "0.9", "dtype": "fp8", "blockSize": 32}
OWN = {"version": "v0.32.0"}


def engine(type_: str, kv_cache: dict[str, Any] | None, *args: str, **more: Any) -> EngineContainer:
    """Give the container of an engine with this KV cache."""
    said = {"kvCache": kv_cache} if kv_cache is not None else {}
    model = make_model(engine={"type": type_, "args": list(args), **said, **more})
    assert model.spec
    return build_engine(model, model.spec, BuildSettings())


def added(type_: str, kv_cache: dict[str, Any], *args: str, **more: Any) -> tuple[str, ...]:
    """Give the words that a KV cache adds to an engine's command line."""
    without = engine(type_, None, *args, **more).args
    there = list(engine(type_, kv_cache, *args, **more).args)
    for word in without:
        there.remove(word)
    return tuple(there)


@pytest.mark.parametrize(
    ("type_", "kv_cache", "words"),
    [
        ("vLLM", {}, ()),
        (
            "vLLM",
            WHOLE,
            (
                *("--gpu-memory-utilization", "0.9", "--kv-cache-dtype", "fp8", "--block-size", "32"),
                "--enable-prefix-caching",
            ),
        ),
        ("vLLM", {"prefixCaching": False}, ("--no-enable-prefix-caching",)),
        ("vLLM", {"offload": {"cpu": "64Gi"}}, ("--kv-offloading-size", "64")),
        ("vLLM", {"offload": {"cpu": "2Ti"}}, ("--kv-offloading-size", "2048")),
        (
            "SGLang",
            {**WHOLE, "dtype": "fp8_e5m2"},
            ("--mem-fraction-static", "0.9", "--kv-cache-dtype", "fp8_e5m2", "--page-size", "32"),
        ),
        ("vLLM", {"events": False}, ()),
        ("vLLM", {"events": True}, ("--kv-events", "on")),
        ("SGLang", {"prefixCaching": False}, ("--disable-radix-cache",)),
        (
            "TGI",
            {"memoryShare": "0.8", "dtype": "fp8_e4m3"},
            ("--cuda-memory-fraction", "0.8", "--kv-cache-dtype", "fp8_e4m3fn"),
        ),
        ("TGI", {"dtype": "auto"}, ()),
        ("Simulator", {"prefixCaching": False}, ("--prefix-cache", "off")),
        ("Simulator", {"prefixCaching": True}, ("--prefix-cache", "on")),
        ("Simulator", {"events": True}, ("--kv-events", "on")),
        ("Simulator", {"events": False}, ()),
    ],
)
def test_each_engine_is_told_in_its_own_words(type_: str, kv_cache: dict[str, Any], words: tuple[str, ...]) -> None:
    """What the spec says is there under the engine's own name for it, and nothing of what it does not say."""
    assert added(type_, kv_cache) == words


def test_vllm_tells_a_sidecar_within_its_pod() -> None:
    """Of vLLM in an image of its own the worker listens where vLLM publishes, and asks again where it tells again; none
    of it can be reached from outside of the pod."""
    model = make_model(engine={"type": "vLLM", "kvCache": {"events": True}, **OWN})
    assert model.spec
    flag, value = added("vLLM", {"events": True}, **OWN)
    assert flag == "--kv-events-config"
    told = json.loads(value)
    assert (told["enable_kv_cache_events"], told["publisher"]) == (True, "zmq")
    assert told["endpoint"].startswith("tcp://127.0.0.1:")
    assert told["replay_endpoint"].startswith("tcp://127.0.0.1:")
    words = sidecar_arguments(model, model.spec)
    assert words[words.index("--kv-events") + 1] == told["endpoint"]
    assert words[words.index("--kv-events-replay") + 1] == told["replay_endpoint"]
    silent = make_model(engine={"type": "vLLM", **OWN})
    assert silent.spec
    assert "--kv-events" not in sidecar_arguments(silent, silent.spec)


@pytest.mark.parametrize(
    ("engine", "faulty"),
    [
        ({}, None),
        ({"version": "v0.9.0"}, None),
        ({"version": "v0.8.5"}, "spec.engine.kvCache.events"),
        ({"args": ["--no-enable-prefix-caching"]}, "spec.engine.kvCache.events"),
        ({"args": ["--enable-prefix-caching"]}, None),
        ({"args": ["--data_parallel_size=2"]}, "spec.engine.kvCache.events"),
        ({"args": ["-dp", "2"]}, "spec.engine.kvCache.events"),
        ({"args": ["--data-parallel-size", "1"]}, None),
        ({"args": ["--kv-events-config", "{}"]}, "spec.engine.args[0]"),
        ({"type": "Simulator", "args": ["--prefix-cache", "off"]}, "spec.engine.kvCache.events"),
        ({"type": "Simulator", "args": ["--prefix-cache=on"]}, None),
        ({"type": "Simulator", "args": ["--kv-events", "off"]}, "spec.engine.args[0]"),
        ({"type": "Simulator", "args": ["--kv-events", "on"]}, None),
    ],
)
def test_blocks_are_told_only_where_they_can_be(engine: dict[str, Any], faulty: str | None) -> None:
    """An engine that would tell nothing, or whose ranks would tell apart, is refused; so is what says it otherwise."""
    model = make_model(engine={"kvCache": {"events": True}, **engine})
    assert [fault.field for fault in find_faults(model)] == ([faulty] if faulty else [])


def test_a_config_of_events_of_ones_own_is_ones_own() -> None:
    """Whoever wants vLLM's events for something else, and none in the gateway, gives vLLM's option."""
    assert not find_faults(make_model(engine={"args": ["--kv-events-config", "{}"]}))


def test_lmcache_is_a_connector_with_its_own_memory() -> None:
    """vLLM is given the connector and no size of its own; LMCache reads its size from its variables."""
    kv_cache = {"connector": "LMCache", "offload": {"cpu": "32Gi"}}
    flag, value = added("vLLM", kv_cache, **OWN)
    assert flag == "--kv-transfer-config"
    assert json.loads(value) == {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
    env = engine("vLLM", kv_cache, **OWN).env
    assert (env["LMCACHE_LOCAL_CPU"], env["LMCACHE_MAX_LOCAL_CPU_SIZE"]) == ("True", "32")
    assert "LMCACHE_LOCAL_CPU" not in engine("vLLM", {"connector": "LMCache"}, **OWN).env


@pytest.mark.parametrize(
    ("kv_cache", "users", "gone"),
    [
        (WHOLE, ("--gpu_memory_utilization=0.5",), "--gpu-memory-utilization"),
        (WHOLE, ("--no-enable-prefix-caching",), "--enable-prefix-caching"),
        ({"prefixCaching": False}, ("--enable-prefix-caching",), "--no-enable-prefix-caching"),
        (WHOLE, ("--block-size", "16"), "32"),
        ({"offload": {"cpu": "8Gi"}}, ("--kv-transfer-config", "{}"), "--kv-offloading-size"),
        ({"offload": {"cpu": "8Gi"}}, ("--kv-offloading-size", "4"), "8"),
    ],
)
def test_the_users_arguments_win(kv_cache: dict[str, Any], users: tuple[str, ...], gone: str) -> None:
    """An option that the user gives, in any spelling, takes the place of what the KV cache says."""
    arguments = engine("vLLM", kv_cache, *users).args
    assert gone not in arguments
    assert arguments[-len(users) :] == users


def test_the_users_argument_wins_for_the_simulator() -> None:
    """As for all other engines."""
    spec = make_model(
        engine={"type": "Simulator", "args": ["--prefix-cache", "on"], "kvCache": {"prefixCaching": False}}
    ).spec
    assert spec
    assert simulator_arguments(spec) == ["--prefix-cache", "on"]


@pytest.mark.parametrize(
    ("memory", "faulty"), [(None, False), ("96Gi", False), ("64Gi", True), ("63Gi", True), ("68719476737", False)]
)
def test_blocks_in_memory_are_part_of_the_pods_memory(memory: str | None, *, faulty: bool) -> None:
    """An offload that takes all of the pod's limit is a fault; without a limit nothing is known."""
    resources = {"memory": memory} if memory else {}
    model = make_model(engine={"kvCache": {"offload": {"cpu": "64Gi"}}}, resources=resources)
    assert [fault.field for fault in find_faults(model)] == ["spec.engine.kvCache.offload.cpu"] * faulty


@pytest.mark.parametrize(
    ("version", "connector", "faulty"),
    [
        (None, None, False),
        ("v0.11.0", None, False),
        ("v1.0.0", None, False),
        ("latest", None, False),
        ("v0.10.2", None, True),
        ("v0.10.2", "LMCache", False),
    ],
)
def test_blocks_go_to_memory_only_where_the_engine_can(
    version: str | None, connector: str | None, *, faulty: bool
) -> None:
    """An engine that is told an option which it does not know ends at its start; LMCache is told by variables."""
    cache = {"offload": {"cpu": "64Gi"}} | ({"connector": connector} if connector else {})
    model = make_model(engine={"kvCache": cache} | ({"version": version} if version else {}))
    assert [fault.field for fault in find_faults(model)] == ["spec.engine.kvCache.offload"] * faulty


@pytest.mark.parametrize(
    ("engine", "faulty"),
    [
        ({}, False),
        ({"version": "v0.9.0"}, False),
        ({"version": "0.10.2"}, False),
        ({"version": "v1.0.0"}, False),
        ({"version": "latest"}, False),
        ({"image": "registry/vllm:v0.8.0"}, False),
        ({"version": "v0.8.5"}, True),
        ({"version": "0.6.3.post1"}, True),
        ({"args": ["--kv_transfer_config={}"]}, True),
        ({"args": ["--kv-offloading-backend", "lmcache"]}, True),
        ({"args": ["--kv-transfer-config.kv_connector", "LMCacheConnectorV1"]}, True),
        ({"args": ["--kv-trans", "{}"]}, True),
        ({"args": ["--kv-cache-dtype", "fp8", "--kv-offloading-size", "4"]}, False),
    ],
)
def test_tenants_are_kept_apart_only_where_they_can_be(engine: dict[str, Any], *, faulty: bool) -> None:
    """A vLLM that would ignore the salt, and a connector that may, are refused."""
    model = make_model(engine={"kvCache": {"isolation": "Tenant"}, **engine})
    assert [fault.field for fault in find_faults(model)] == ["spec.engine.kvCache.isolation"] * faulty
