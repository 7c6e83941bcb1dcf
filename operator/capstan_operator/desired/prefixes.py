"""Which prompts of a model its requests may name: those that fit into its part of the gateway config. Pure."""

from collections.abc import Iterator
from typing import Final

from capstan_contract.config import PromptPrefix
from capstan_contract.entries import canonical
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.resources.resource import Fault

MOST_BYTES: Final = 32 * 1024
"""Of the prompts of one model in the gateway config, as JSON. All models share some megabytes there."""


def named_prefixes(spec: LLMModelSpec) -> tuple[PromptPrefix, ...]:
    """Give the prompts that requests may name, in the order of the manifest; one that does not fit is left out."""
    found, left = [], MOST_BYTES
    for name, text in spec.prompts.items():
        entry = PromptPrefix(name=name, system=text)
        size = len(canonical(entry.model_dump(mode="json")))
        if size <= left:
            found.append(entry)
            left -= size
    return tuple(found)


def find_prefix_doubts(spec: LLMModelSpec) -> Iterator[Fault]:
    """Give the prompts that are kept warm and cannot be named, and all of them where the engine keeps nothing."""
    cache = spec.engine.kvCache
    if spec.prefixes and cache is not None and cache.prefixCaching is False:
        yield Fault("spec.prefixes", "can be named, and are not kept warm: `engine.kvCache.prefixCaching` is false")
    named = {prefix.name for prefix in named_prefixes(spec)}
    for index, prefix in enumerate(spec.prefixes):
        if prefix.system is not None and prefix.name not in named:
            message = f"is kept warm, and requests cannot name it: of all prompts of a model {MOST_BYTES} bytes fit"
            yield Fault(f"spec.prefixes[{index}].system", message)
