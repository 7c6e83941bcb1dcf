"""What `spec.engine.speculative` is in the words of each engine. Pure.

vLLM 0.32 (`vllm.config.SpeculativeConfig`), SGLang (docs.sglang.io, speculative decoding) and TGI 3 (launcher).
"""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.api.llmmodel import Engine, EngineType
from capstan_operator.api.speculative import SpeculativeMethod, SpeculativeSpec
from capstan_operator.desired.arguments import Option, option
from capstan_operator.desired.releases import Release, is_before
from capstan_operator.desired.volumes import parse_source
from capstan_operator.resources.resource import Fault

FIRST_CONFIG: Final = (0, 8, 2)
"""The first release of vLLM that knows --speculative-config (vllm-project/vllm#14434)."""
FIRST_METHODS: Final[Mapping[SpeculativeMethod, Release]] = MappingProxyType(
    {
        SpeculativeMethod.EAGLE3: (0, 8, 5),
        SpeculativeMethod.MTP: (0, 11),
    }
)
"""The first release of vLLM that knows a method by this name (vllm-project/vllm#16937, #25232)."""
WITHOUT_DRAFT_MODELS: Final = ((0, 10), (0, 14))
"""Releases of vLLM from the first of the two on, and before the second one, end at their start when they are told to
guess with a draft model (vllm-project/vllm#21797, #31883)."""

_VLLM_METHODS: Final[Mapping[SpeculativeMethod, str]] = MappingProxyType(
    {
        SpeculativeMethod.NGRAM: "ngram",
        SpeculativeMethod.DRAFT_MODEL: "draft_model",
        SpeculativeMethod.EAGLE: "eagle",
        SpeculativeMethod.EAGLE3: "eagle3",
        SpeculativeMethod.MTP: "mtp",
        SpeculativeMethod.MEDUSA: "medusa",
    }
)
_SGLANG_ALGORITHMS: Final[Mapping[SpeculativeMethod, str]] = MappingProxyType(
    {
        SpeculativeMethod.NGRAM: "NGRAM",
        SpeculativeMethod.DRAFT_MODEL: "STANDALONE",
        SpeculativeMethod.EAGLE: "EAGLE",
        SpeculativeMethod.EAGLE3: "EAGLE3",
        # SGLang runs the heads of the model itself as EAGLE does those that were trained for it.
        SpeculativeMethod.MTP: "EAGLE",
    }
)
_VLLM_SPELLINGS: Final = ("-sc", "--spec-method", "--spec-model", "--spec-tokens")
"""vLLM refuses what `--speculative-config` says and one of these says again, so any of them takes its place."""
_SGLANG_SPELLINGS: Final = (
    *("--speculative-draft-model-path", "--speculative-draft-model", "--speculative-num-steps"),
    *("--speculative-eagle-topk", "--speculative-num-draft-tokens"),
)


def vllm_speculation(said: SpeculativeSpec | None) -> list[Option]:
    """Give vLLM's option: one JSON object."""
    if said is None:
        return []
    config: dict[str, Any] = {"method": _VLLM_METHODS[said.method]}
    if said.model is not None:
        config["model"] = parse_source(said.model).path
    config["num_speculative_tokens"] = said.tokens
    if said.ngram is not None:
        window = {"prompt_lookup_min": said.ngram.min, "prompt_lookup_max": said.ngram.max}
        config |= {key: tokens for key, tokens in window.items() if tokens is not None}
    return [option("--speculative-config", json.dumps(config, separators=(",", ":")), also=_VLLM_SPELLINGS)]


def sglang_speculation(said: SpeculativeSpec | None) -> list[Option]:
    """Give SGLang's options: a chain of guesses, as the other engines make it, and no tree of them.

    SGLang counts the token that the guesses begin with as one of them.
    """
    if said is None:
        return []
    ours = [option("--speculative-algorithm", _SGLANG_ALGORITHMS[said.method])]
    if said.model is not None:
        ours.append(option(_SGLANG_SPELLINGS[0], parse_source(said.model).path, also=_SGLANG_SPELLINGS[1:2]))
    if said.method is not SpeculativeMethod.NGRAM:
        ours.append(option("--speculative-num-steps", str(said.tokens)))
        ours.append(option("--speculative-eagle-topk", "1"))
    return [*ours, option("--speculative-num-draft-tokens", str(said.tokens + 1))]


def tgi_speculation(said: SpeculativeSpec | None) -> list[Option]:
    """Give TGI's option. Which method it is follows from the weights: Medusa's heads, or none."""
    return [] if said is None else [option("--speculate", str(said.tokens))]


def find_speculation_faults(engine: Engine) -> Iterator[Fault]:
    """Give what the release of vLLM, where the manifest says one, is known not to know."""
    said = engine.speculative
    if said is None or engine.type is not EngineType.VLLM:
        return
    first = FIRST_METHODS.get(said.method)
    since, until = WITHOUT_DRAFT_MODELS
    if is_before(engine, FIRST_CONFIG):
        message = "must not be set before v0.8.2 of vLLM, which does not know --speculative-config"
        yield Fault("spec.engine.speculative", f"{message}: give --speculative-model and what goes with it in `args`")
    elif first is not None and is_before(engine, first):
        named = ".".join(map(str, (*first, 0)[:3]))
        yield Fault("spec.engine.speculative.method", f"must not be {said.method} before v{named} of vLLM")
    elif said.method is SpeculativeMethod.DRAFT_MODEL and not is_before(engine, since) and is_before(engine, until):
        message = "must not be DraftModel from v0.10.0 of vLLM on and before v0.14.0, which cannot do it"
        yield Fault("spec.engine.speculative.method", message)
