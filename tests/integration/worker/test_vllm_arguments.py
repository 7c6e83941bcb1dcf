"""vLLM's own parser takes what the operator writes of the plain fields, of a KV cache, of speculative decoding and of
the table."""

import json
import subprocess
from typing import Any

import pytest

from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.vllm_arguments import MOST_USED
from capstan_operator.desired.engine import vllm_arguments
from support.needs import ROOT
from support.vllm import ENVIRON, need_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

READ = """
import json, sys
from typing import get_args
from capstan_worker.engine.vllm import parse_serve_arguments
from vllm.config.speculative import SpeculativeMethod
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

def flat(kinds):
    for kind in get_args(kinds):
        yield from flat(kind) if get_args(kind) else [kind]

told = json.loads(sys.argv[1])
found = [vars(parse_serve_arguments(words, host="127.0.0.1", port=1)) for words in told]
parser = make_arg_parser(FlexibleArgumentParser())
options = sorted(flag for action in parser._actions for flag in action.option_strings)
for one in found:
    one["kv_transfer_config"] = getattr(one["kv_transfer_config"], "__dict__", None)
print(json.dumps({"found": found, "options": options, "methods": list(flat(SpeculativeMethod))}, default=str))
"""
SPECS: list[dict[str, Any]] = [
    {
        "quantization": "fp8",
        "dtype": "bfloat16",
        "gpuMemoryUtilization": "0.85",
        "maxNumSeqs": 16,
        "maxNumBatchedTokens": 4096,
        "trustRemoteCode": True,
        "toolCallParser": "hermes",
        "reasoningParser": "qwen3",
    },
    {"speculative": {"method": "NGram", "tokens": 4, "ngram": {"min": 2, "max": 5}}},
    {"speculative": {"method": "DraftModel", "model": "hf://a/s", "tokens": 4}},
    {"speculative": {"method": "EAGLE", "model": "hf://a/e", "tokens": 4}},
    {"speculative": {"method": "EAGLE3", "model": "hf://a/e", "tokens": 4}},
    {"speculative": {"method": "MTP", "tokens": 1}},
    {"speculative": {"method": "Medusa", "model": "hf://a/m", "tokens": 2}},
    {"speculative": {"method": "MTP", "tokens": 1}, "args": ["--speculative-config.method", "ngram"]},
    {
        "kvCache": {
            "prefixCaching": False,
            "memoryShare": "0.85",
            "dtype": "fp8_e5m2",
            "blockSize": 32,
            "offload": {"cpu": "4Gi"},
        }
    },
    {"version": "v0.32.0", "kvCache": {"connector": "LMCache", "offload": {"cpu": "4Gi"}}},
]


@pytest.fixture(scope="module")
def read() -> dict[str, Any]:
    """What vLLM makes of the arguments of these engines, and what it knows at all: in one process, which is slow."""
    told = []
    for engine in SPECS:
        spec = LLMModelSpec.model_validate({"model": {"source": "hf://a/b"}, "engine": engine})
        told.append(vllm_arguments(spec, name="m", path="a/b"))
    environ = {**ENVIRON, "PYTHONPATH": f"{ROOT / 'worker'}:{ROOT / 'gateway'}"}
    line = [need_vllm(), "-c", READ, json.dumps(told)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=240, env=environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_vllm_reads_the_plain_fields(read: dict[str, Any]) -> None:
    """Each is the setting of vLLM's that the documentation names."""
    said = read["found"][0]
    names = ("quantization", "dtype", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens")
    assert [said[name] for name in names] == ["fp8", "bfloat16", 0.85, 16, 4096]
    assert said["trust_remote_code"] is True
    assert (said["tool_call_parser"], said["enable_auto_tool_choice"]) == ("hermes", True)
    assert said["reasoning_parser"] == "qwen3"


def test_vllm_knows_every_method(read: dict[str, Any]) -> None:
    """And how many tokens, with which weights and window."""
    configs = [one["speculative_config"] for one in read["found"][1:7]]
    assert {one["method"] for one in configs} <= set(read["methods"])
    assert configs[0] == {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_min": 2,
        "prompt_lookup_max": 5,
    }
    assert [one.get("model") for one in configs] == [None, "a/s", "a/e", "a/e", None, "a/m"]
    assert [one["num_speculative_tokens"] for one in configs] == [4, 4, 4, 4, 1, 2]


def test_a_key_of_the_user_takes_the_place_of_all_that_a_field_says(read: dict[str, Any]) -> None:
    """vLLM makes an object of such keys alone, so nothing is merged, and nothing is said twice."""
    assert read["found"][7]["speculative_config"] == {"method": "ngram"}


def test_vllm_knows_the_arguments_of_the_table(read: dict[str, Any]) -> None:
    """Those that pass through as well."""
    assert {one.option for one in MOST_USED} <= set(read["options"])


def test_vllm_reads_what_the_spec_says_of_a_cache(read: dict[str, Any]) -> None:
    """Each field of `kvCache` is the setting of vLLM's that the documentation names."""
    names = (
        "enable_prefix_caching", "gpu_memory_utilization", "kv_cache_dtype", "block_size", "kv_offloading_size",
    )  # fmt: skip
    assert [read["found"][8][name] for name in names] == [False, 0.85, "fp8_e5m2", 32, 4.0]


def test_vllm_reads_the_connector(read: dict[str, Any]) -> None:
    """LMCache is a connector that vLLM reads as one, for both directions."""
    found = read["found"][9]
    assert found["kv_offloading_size"] is None
    assert found["kv_transfer_config"]["kv_connector"] == "LMCacheConnectorV1"
    assert found["kv_transfer_config"]["kv_role"] == "kv_both"
