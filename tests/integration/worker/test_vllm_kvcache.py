"""vLLM's own parser takes what the operator writes of a KV cache."""

import json
import subprocess
from typing import Any

import pytest

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.engine import vllm_arguments
from support.needs import ROOT
from support.vllm import ENVIRON, need_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PARSE = """
import json, sys
from capstan_worker.engine.vllm import parse_serve_arguments
found = parse_serve_arguments(json.loads(sys.argv[1]), host="127.0.0.1", port=1)
print(json.dumps({name: getattr(found, name) for name in sys.argv[2].split(",")}, default=vars))
"""
NAMES = "enable_prefix_caching,gpu_memory_utilization,kv_cache_dtype,block_size,kv_offloading_size"


def parsed(engine: dict[str, Any], names: str) -> dict[str, Any]:
    """Give what vLLM makes of the arguments of a model with this engine."""
    spec = LLMModelSpec.model_validate({"model": {"source": "hf://a/b"}, "engine": engine})
    words = json.dumps(vllm_arguments(spec, name="m", path="a/b"))
    environ = {**ENVIRON, "PYTHONPATH": f"{ROOT / 'worker'}:{ROOT / 'gateway'}"}
    line = [need_vllm(), "-c", PARSE, words, names]
    done = subprocess.run(line, capture_output=True, text=True, timeout=240, env=environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_vllm_reads_what_the_spec_says():
    """Each field of `kvCache` is the setting of vLLM's that the documentation names."""
    kv_cache = {
        "prefixCaching": False,
        "memoryShare": "0.85",
        "dtype": "fp8_e5m2",
        "blockSize": 32,
        "offload": {"cpu": "4Gi"},
    }
    assert parsed({"kvCache": kv_cache}, NAMES) == {
        "enable_prefix_caching": False,
        "gpu_memory_utilization": 0.85,
        "kv_cache_dtype": "fp8_e5m2",
        "block_size": 32,
        "kv_offloading_size": 4.0,
    }


def test_vllm_reads_the_connector():
    """LMCache is a connector that vLLM reads as one, for both directions."""
    engine = {"version": "v0.32.0", "kvCache": {"connector": "LMCache", "offload": {"cpu": "4Gi"}}}
    found = parsed(engine, "kv_transfer_config,kv_offloading_size")
    assert found["kv_offloading_size"] is None
    assert found["kv_transfer_config"]["kv_connector"] == "LMCacheConnectorV1"
    assert found["kv_transfer_config"]["kv_role"] == "kv_both"
