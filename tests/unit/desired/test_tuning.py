"""The plain fields of `spec.engine`, and speculative decoding, in the words of each engine."""

import json
from typing import Any

import pytest

from capstan_operator.desired.engine import build_engine, simulator_arguments
from capstan_operator.desired.faults import find_doubts, find_faults
from capstan_operator.settings import BuildSettings
from support.plainmodels import make_model

HEADS = {"method": "EAGLE3", "model": "hf://org/heads", "tokens": 3}


def words(type_: str, *args: str, **fields: Any) -> tuple[str, ...]:
    """Give the arguments of an engine with these fields."""
    model = make_model(engine={"type": type_, "args": list(args), **fields})
    assert model.spec
    return build_engine(model, model.spec, BuildSettings()).args


def added(type_: str, **fields: Any) -> tuple[str, ...]:
    """Give the words that the fields add to an engine's command line."""
    there = list(words(type_, **fields))
    for word in words(type_):
        there.remove(word)
    return tuple(there)


@pytest.mark.parametrize(
    ("type_", "field", "value", "expected"),
    [
        ("vLLM", "quantization", "fp8", "--quantization fp8"),
        ("SGLang", "quantization", "awq", "--quantization awq"),
        ("TGI", "quantization", "bitsandbytes-nf4", "--quantize bitsandbytes-nf4"),
        ("vLLM", "dtype", "bfloat16", "--dtype bfloat16"),
        ("vLLM", "dtype", "auto", "--dtype auto"),
        ("SGLang", "dtype", "float32", "--dtype float32"),
        ("TGI", "dtype", "float16", "--dtype float16"),
        ("TGI", "dtype", "auto", ""),
        ("vLLM", "gpuMemoryUtilization", "0.92", "--gpu-memory-utilization 0.92"),
        ("SGLang", "gpuMemoryUtilization", "0.8", "--mem-fraction-static 0.8"),
        ("TGI", "gpuMemoryUtilization", "0.8", "--cuda-memory-fraction 0.8"),
        ("vLLM", "maxNumSeqs", 64, "--max-num-seqs 64"),
        ("SGLang", "maxNumSeqs", 64, "--max-running-requests 64"),
        ("Simulator", "maxNumSeqs", 4, "--concurrency 4"),
        ("vLLM", "maxNumBatchedTokens", 8192, "--max-num-batched-tokens 8192"),
        ("SGLang", "maxNumBatchedTokens", 8192, "--chunked-prefill-size 8192"),
        ("TGI", "maxNumBatchedTokens", 8192, "--max-batch-prefill-tokens 8192"),
        ("vLLM", "trustRemoteCode", True, "--trust-remote-code"),
        ("vLLM", "trustRemoteCode", False, ""),
        ("SGLang", "trustRemoteCode", True, "--trust-remote-code"),
        ("TGI", "trustRemoteCode", True, "--trust-remote-code"),
        ("vLLM", "toolCallParser", "hermes", "--tool-call-parser hermes --enable-auto-tool-choice"),
        ("SGLang", "toolCallParser", "qwen25", "--tool-call-parser qwen25"),
        ("vLLM", "reasoningParser", "qwen3", "--reasoning-parser qwen3"),
        ("SGLang", "reasoningParser", "deepseek-r1", "--reasoning-parser deepseek-r1"),
    ],
)
def test_each_engine_is_told_in_its_own_words(type_: str, field: str, value: object, expected: str) -> None:
    """What the spec says is there under the engine's own name for it, and nothing where there is nothing to say."""
    assert added(type_, **{field: value}) == tuple(expected.split())


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ({"method": "NGram", "tokens": 4}, {"method": "ngram", "num_speculative_tokens": 4}),
        (
            {"method": "NGram", "tokens": 4, "ngram": {"min": 2, "max": 5}},
            {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 5},
        ),
        (HEADS, {"method": "eagle3", "model": "org/heads", "num_speculative_tokens": 3}),
        (
            {"method": "DraftModel", "model": "pvc://drafts/small", "tokens": 5},
            {"method": "draft_model", "model": "/mnt/claims/drafts/small", "num_speculative_tokens": 5},
        ),
        ({"method": "MTP", "tokens": 1}, {"method": "mtp", "num_speculative_tokens": 1}),
        (
            {"method": "Medusa", "model": "hf://a/m", "tokens": 2},
            {"method": "medusa", "model": "a/m", "num_speculative_tokens": 2},
        ),
        (
            {"method": "EAGLE", "model": "hf://a/e", "tokens": 2},
            {"method": "eagle", "model": "a/e", "num_speculative_tokens": 2},
        ),
    ],
)
def test_vllm_guesses_as_one_object_says(said: dict[str, Any], config: dict[str, Any]) -> None:
    """vLLM has one option for all of it."""
    flag, value = added("vLLM", speculative=said)
    assert flag == "--speculative-config"
    assert json.loads(value) == config


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"method": "NGram", "tokens": 4}, "--speculative-algorithm NGRAM --speculative-num-draft-tokens 5"),
        (
            HEADS,
            "--speculative-algorithm EAGLE3 --speculative-draft-model-path org/heads --speculative-num-steps 3"
            " --speculative-eagle-topk 1 --speculative-num-draft-tokens 4",
        ),
        (
            {"method": "DraftModel", "model": "hf://a/s", "tokens": 2},
            "--speculative-algorithm STANDALONE --speculative-draft-model-path a/s --speculative-num-steps 2"
            " --speculative-eagle-topk 1 --speculative-num-draft-tokens 3",
        ),
        (
            {"method": "MTP", "tokens": 1},
            "--speculative-algorithm EAGLE --speculative-num-steps 1 --speculative-eagle-topk 1"
            " --speculative-num-draft-tokens 2",
        ),
    ],
)
def test_sglang_guesses_a_chain(said: dict[str, Any], expected: str) -> None:
    """As many tokens one after the other as the spec says, and the one that they begin with."""
    assert added("SGLang", speculative=said) == tuple(expected.split())


@pytest.mark.parametrize("method", ["DraftModel", "EAGLE", "EAGLE3", "Medusa"])
def test_what_guesses_by_weights_of_its_own_needs_them(method: str) -> None:
    """Each method by name: vLLM would end at its start."""
    (fault,) = find_faults(make_model(engine={"speculative": {"method": method, "tokens": 3}}))
    assert (fault.field, "is required" in fault.message) == ("spec.engine.speculative.model", True)


def test_tgi_is_told_how_many_to_guess() -> None:
    """What by follows from the weights."""
    assert added("TGI", speculative={"method": "NGram", "tokens": 3}) == ("--speculate", "3")
    assert added("TGI", speculative={"method": "Medusa", "tokens": 2}) == ("--speculate", "2")


@pytest.mark.parametrize(
    ("type_", "fields", "users", "gone"),
    [
        ("vLLM", {"quantization": "fp8"}, ("-q", "awq"), "--quantization"),
        ("vLLM", {"quantization": "fp8"}, ("--quantization=awq",), "fp8"),
        ("vLLM", {"dtype": "float16"}, ("--dtype", "half"), "float16"),
        ("vLLM", {"gpuMemoryUtilization": "0.9"}, ("--device_memory_utilization=0.5",), "--gpu-memory-utilization"),
        ("vLLM", {"maxNumSeqs": 8}, ("--max_num_seqs", "9"), "8"),
        ("vLLM", {"trustRemoteCode": True}, ("--no-trust-remote-code",), "--trust-remote-code"),
        ("vLLM", {"toolCallParser": "hermes"}, ("--tool-call-parser", "mistral"), "hermes"),
        ("vLLM", {"reasoningParser": "qwen3"}, ("--reasoning-parser=x",), "qwen3"),
        ("vLLM", {"speculative": HEADS}, ("-sc", "{}"), "--speculative-config"),
        ("vLLM", {"speculative": HEADS}, ("--spec-tokens", "9"), "--speculative-config"),
        ("vLLM", {"speculative": HEADS}, ("--spec-method", "mtp"), "--speculative-config"),
        ("vLLM", {"speculative": HEADS}, ("--spec_model=a/b",), "--speculative-config"),
        ("SGLang", {"speculative": HEADS}, ("--speculative-num-steps", "9"), "3"),
        ("SGLang", {"speculative": HEADS}, ("--speculative-draft-model", "a/b"), "--speculative-draft-model-path"),
        ("TGI", {"quantization": "fp8"}, ("--quantize", "eetq"), "fp8"),
        ("TGI", {"speculative": {"method": "NGram", "tokens": 3}}, ("--speculate", "9"), "3"),
    ],
)
def test_the_users_arguments_win(type_: str, fields: dict[str, Any], users: tuple[str, ...], gone: str) -> None:
    """An option that the user gives, in any spelling, takes the place of what a field says."""
    arguments = words(type_, *users, **fields)
    assert gone not in arguments
    assert arguments[-len(users) :] == users


def test_the_users_argument_wins_for_the_simulator() -> None:
    """As for all other engines."""
    spec = make_model(engine={"type": "Simulator", "args": ["--concurrency", "2"], "maxNumSeqs": 8}).spec
    assert spec
    assert simulator_arguments(spec) == ["--concurrency", "2"]


def test_a_parser_of_the_user_is_switched_on_once() -> None:
    """Beside the field of the same name too."""
    arguments = words("vLLM", "--tool-call-parser", "mistral", toolCallParser="hermes")
    assert arguments.count("--enable-auto-tool-choice") == 1


DRAFT = {"method": "DraftModel", "model": "hf://a/s", "tokens": 3}
NGRAM = {"method": "NGram", "tokens": 3}
MTP = {"method": "MTP", "tokens": 1}
OWN = "vllm/vllm-openai"


@pytest.mark.parametrize(
    ("engine", "faulty"),
    [
        ({"speculative": NGRAM}, None),
        ({"speculative": NGRAM, "version": "v0.8.2"}, None),
        ({"speculative": NGRAM, "version": "latest"}, None),
        ({"speculative": NGRAM, "version": "v0.8.1"}, "speculative"),
        ({"speculative": NGRAM, "image": f"mirror.example.com/{OWN}:v0.7.3"}, "speculative"),
        ({"speculative": NGRAM, "image": "lmcache/vllm-openai:v0.3.5"}, None),
        ({"speculative": HEADS, "version": "v0.8.5"}, None),
        ({"speculative": HEADS, "version": "v0.8.4"}, "speculative.method"),
        ({"speculative": HEADS, "version": "v0.8.1"}, "speculative"),
        ({"speculative": HEADS, "type": "SGLang", "version": "v0.4.6"}, None),
        ({"speculative": MTP, "version": "v0.11.0"}, None),
        ({"speculative": MTP, "version": "v0.10.2"}, "speculative.method"),
        ({"speculative": DRAFT, "version": "v0.9.2"}, None),
        ({"speculative": DRAFT, "version": "v0.10.0"}, "speculative.method"),
        ({"speculative": DRAFT, "version": "v0.13.0"}, "speculative.method"),
        ({"speculative": DRAFT, "version": "v0.14.0"}, None),
        ({"speculative": DRAFT}, None),
        ({"reasoningParser": "qwen3", "version": "v0.8.5"}, "reasoningParser"),
        ({"reasoningParser": "qwen3", "version": "v0.9.0"}, None),
        ({"reasoningParser": "qwen3", "type": "SGLang", "version": "v0.4.6"}, None),
    ],
)
def test_a_release_that_is_known_not_to_know_it_is_refused(engine: dict[str, Any], faulty: str | None) -> None:
    """Where the manifest says one; it would end at its start. What nobody knows passes."""
    faults = find_faults(make_model(engine=engine))
    assert [fault.field for fault in faults] == ([f"spec.engine.{faulty}"] if faulty else [])


@pytest.mark.parametrize(
    ("engine", "doubtful"),
    [
        ({"quantization": "fp8"}, None),
        ({"quantization": "fp9"}, "quantization"),
        ({"quantization": "gguf"}, None),
        ({"type": "SGLang", "quantization": "w8a8_int8"}, None),
        ({"type": "SGLang", "quantization": "torchao"}, "quantization"),
        ({"type": "TGI", "quantization": "eetq"}, None),
        ({"quantization": "fp8", "args": ["--seed", "1", "-q", "awq"]}, "args[2]"),
        ({"quantization": "fp8", "args": ["--quantization-config", "{}"]}, None),
        ({"trustRemoteCode": True, "args": ["--no-trust-remote-code"]}, "args[0]"),
        ({"trustRemoteCode": False, "args": ["--trust-remote-code"]}, "args[0]"),
        ({"speculative": NGRAM, "args": ["--speculative-config.method", "ngram"]}, "args[0]"),
        ({"type": "TGI", "quantization": "fp8", "args": ["--quantize", "eetq"]}, "args[0]"),
        ({"type": "Simulator", "maxNumSeqs": 4, "args": ["--concurrency=2"]}, "args[0]"),
    ],
)
def test_what_is_hardly_meant_is_told(engine: dict[str, Any], doubtful: str | None) -> None:
    """A method that no engine is known to have, and a field that an argument takes the place of; both are built."""
    model = make_model(engine=engine)
    assert find_faults(model) == ()
    assert [one.field for one in find_doubts(model)] == ([f"spec.engine.{doubtful}"] if doubtful else [])
