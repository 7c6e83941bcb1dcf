"""The table of vLLM's most used arguments in docs/llmmodel.md says what is true."""

import re
from typing import Any

import pytest

from capstan_operator.api.crd import root_schema
from capstan_operator.api.kinds import LLMMODEL
from capstan_operator.api.vllm_arguments import MOST_USED, VllmArgument
from capstan_operator.desired.engine import vllm_arguments
from capstan_operator.desired.faults import find_doubts, find_faults
from support.needs import ROOT
from support.plainmodels import make_model

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "--model": ({"model": {"source": "hf://org/other"}}, "org/other"),
    "--served-model-name": ({"model": {"servedName": "for-clients"}}, "--served-model-name llama"),
    "--max-model-len": ({"serving": {"contextWindow": 4096}}, "--max-model-len 4096"),
    "--gpu-memory-utilization": ({"engine": {"gpuMemoryUtilization": "0.9"}}, "--gpu-memory-utilization 0.9"),
    "--tensor-parallel-size": ({"parallelism": {"tensor": 2}}, "--tensor-parallel-size 2"),
    "--max-num-batched-tokens": ({"engine": {"maxNumBatchedTokens": 8192}}, "--max-num-batched-tokens 8192"),
    "--kv-cache-dtype": ({"engine": {"kvCache": {"dtype": "fp8"}}}, "--kv-cache-dtype fp8"),
    "--max-num-seqs": ({"engine": {"maxNumSeqs": 8}}, "--max-num-seqs 8"),
    "--enable-prefix-caching": ({"engine": {"kvCache": {"prefixCaching": True}}}, "--enable-prefix-caching"),
    "--tool-call-parser": ({"engine": {"toolCallParser": "hermes"}}, "--tool-call-parser hermes"),
    "--reasoning-parser": ({"engine": {"reasoningParser": "qwen3"}}, "--reasoning-parser qwen3"),
    "--trust-remote-code": ({"engine": {"trustRemoteCode": True}}, "--trust-remote-code"),
    "--quantization": ({"engine": {"quantization": "fp8"}}, "--quantization fp8"),
    "--dtype": ({"engine": {"dtype": "bfloat16"}}, "--dtype bfloat16"),
    "--speculative-config": (
        {"engine": {"speculative": {"method": "NGram", "tokens": 3}}},
        '--speculative-config {"method":"ngram","num_speculative_tokens":3}',
    ),
    "--pipeline-parallel-size": ({"parallelism": {"pipeline": 2}}, "--pipeline-parallel-size 2"),
    "--lora-modules": ({"adapters": [{"name": "x", "source": "hf://a/x"}]}, "--enable-lora --lora-modules x=a/x"),
}
"""By argument: a spec that says it by the field of the table, and the words that follow."""
PASSED = {
    "--enforce-eager": ["--enforce-eager"],
    "--enable-expert-parallel": ["--enable-expert-parallel"],
    "--chat-template": ["--chat-template", "/etc/templates/chat.jinja"],
}
"""By argument: how a user gives it."""


def words(**spec: Any) -> list[str]:
    """Give the arguments of vLLM for a sound model."""
    model = make_model(**spec)
    assert model.spec
    assert find_faults(model) == ()
    assert find_doubts(model) == ()
    return vllm_arguments(model.spec, name="llama", path=(model.spec.model.source or "").removeprefix("hf://"))


def test_there_are_twenty_and_each_is_tried_here() -> None:
    """No row without a case, and none twice."""
    assert len(MOST_USED) == 20
    assert {one.option for one in MOST_USED if one.field} == set(FIELDS)
    assert {one.option for one in MOST_USED if one.field is None} == set(PASSED)


@pytest.mark.parametrize("row", [one for one in MOST_USED if one.field], ids=lambda row: row.option)
def test_a_field_says_its_argument(row: VllmArgument) -> None:
    """The field of the table is a field, is what the case sets, and without it the argument is another one."""
    spec, expected = FIELDS[row.option]
    schema, given = root_schema(LLMMODEL), {"spec": spec}
    for name in (row.field or "").split("."):
        schema, given = schema["properties"][name], given[name]
    assert expected in " ".join(words(**spec))
    if row.option not in ("--model", "--served-model-name"):
        assert row.option not in words()


@pytest.mark.parametrize("option", PASSED)
def test_what_has_no_field_passes_through(option: str) -> None:
    """It is at the end, as the user wrote it, and nobody objects."""
    given = PASSED[option]
    assert words(engine={"args": given})[-len(given) :] == given


def test_the_page_has_the_table() -> None:
    """Row by row, in this order."""
    page = (ROOT / "docs" / "llmmodel.md").read_text(encoding="utf-8")
    section = page.partition("## Arguments of vLLM")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| (?:field `([a-zA-Z.]+)`|passes through `spec\.engine\.args`) \|", section, re.M
    )
    assert [(option, field or None) for option, field in rows] == [(one.option, one.field) for one in MOST_USED]
