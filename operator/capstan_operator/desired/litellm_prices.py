"""LiteLLM's table of prices (model_prices_and_context_window.json), read entry by entry.

An entry becomes a price only if that price is right for every request that the gateway sends: what it does not know it
does not guess. It is refused, with the reason, when

- it is not of a task that the gateway serves, or has no price per token (or second, of sound that is heard), or is of a
  provider that no URL names;
- it has a price of zero, which the table uses for what is free, included in a plan, and not known;
- it has a price for something that nobody tells the number of (pictures, characters, requests), or for a kind
  of token that engines tell nothing of, if that is another one than the tokens' own;
- its price depends on the time of the day, or it searches for each request, which costs something beside tokens.

Left out, because only requests have them that ask for them: batch, priority, flex and other service tiers, and what
searches, code interpreters and the like cost beside tokens.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from capstan_contract.config import Price, PriceTier
from capstan_operator.desired.prices import PROVIDERS

SAMPLE: Final = "sample_spec"
"""An entry that describes the others."""
ANSWERS: Final = frozenset(("chat", "completion", "responses"))
"""Tasks that make output, which must have a price."""
HEARS: Final = "audio_transcription"
MODES: Final = ANSWERS | {"embedding", "rerank", HEARS}
MOST_DOLLARS_PER_TOKEN: Final = 1.0
MOST_TOKENS: Final = 1_000_000_000
_SAME: Final[Mapping[str, str]] = {
    "text-completion-openai": "openai",
    "cohere_chat": "cohere",
    "fireworks_ai-embedding-models": "fireworks_ai",
}
_FIELDS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "inputPerMillion",
    "cache_read_input_token_cost": "cachedInputPerMillion",
    "cache_creation_input_token_cost": "cacheWritePerMillion",
    "cache_creation_input_token_cost_above_1hr": "cacheWriteHourPerMillion",
    "input_cost_per_audio_token": "audioInputPerMillion",
    "output_cost_per_token": "outputPerMillion",
    "output_cost_per_reasoning_token": "reasoningPerMillion",
    "output_cost_per_audio_token": "audioOutputPerMillion",
}
_AS: Final[Mapping[str, str]] = {
    "input_cost_per_token_cache_hit": "cache_read_input_token_cost",
    "cache_read_input_image_token_cost": "cache_read_input_token_cost",
    "cache_creation_input_audio_token_cost": "cache_creation_input_token_cost",
    "input_cost_per_image_token": "input_cost_per_token",
    "input_cost_per_video_token": "input_cost_per_token",
    "citation_cost_per_token": "input_cost_per_token",
    "output_cost_per_image_token": "output_cost_per_token",
    "output_cost_per_video_token": "output_cost_per_token",
}
"""Kinds of tokens that are charged as another kind: right only where the two have one price."""
_SECONDS: Final = ("input_cost_per_second", "output_cost_per_second")
"""Of what hears, whichever of the two is said: LiteLLM charges one of them."""
_CACHED_SOUND: Final = "cache_read_input_audio_token_cost"
_TIER: Final = re.compile(r"(.+)_above_([0-9]{1,6})k_tokens")
_LEFT_OUT: Final = re.compile(
    r".*_(batches|priority|flex|ultrafast|balanced|decisions)|search_context_cost_per_query|.*_grounding_cost_per_query"
    r"|(code_interpreter|file_search|vector_store|computer_use)_.*|.*_above_12hr.*|(input|output)_dbu_cost_per_token"
)


@dataclass(frozen=True)
class Imported:
    """What became of every entry."""

    prices: Mapping[str, Mapping[str, Price]]
    """By provider and name."""
    refused: Mapping[str, str]
    """Reasons, by the names of the entries."""
    read: int = 0
    """Entries that are in `prices`, some of them twice under one name."""


class _Refused(Exception):
    """Why an entry has no price here."""


@dataclass
class _Collected:
    prices: dict[str, dict[str, Price]] = field(default_factory=dict)
    owners: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def read_litellm(document: Any) -> Imported:
    """Read a whole table. ValueError when it is none."""
    if not isinstance(document, dict) or not document:
        raise ValueError("must be an object of models, as LiteLLM's model_prices_and_context_window.json is")
    found = _Collected()
    for key, entry in document.items():
        try:
            provider, name, price = read_entry(key, entry)
        except _Refused as refusal:
            found.refused[key] = str(refusal)
            continue
        found.owners.setdefault((provider, name), []).append(key)
        if found.prices.setdefault(provider, {}).setdefault(name, price) != price:
            found.refused[key] = "another entry of its provider and name has another price"
    for (provider, name), keys in found.owners.items():
        if any(key in found.refused for key in keys):
            found.prices[provider].pop(name, None)
            found.refused |= dict.fromkeys(keys, "another entry of its provider and name has another price")
    prices = {provider: models for provider, models in found.prices.items() if models}
    return Imported(prices, found.refused, len(document) - len(found.refused))


def read_entry(key: str, entry: Any) -> tuple[str, str, Price]:
    """Give the provider, the name and the price of one entry; raises the reason why it has none here."""
    if key == SAMPLE or not isinstance(entry, dict):
        raise _Refused("it is no model")
    mode = entry.get("mode")
    if not isinstance(mode, str) or mode not in MODES:
        raise _Refused(f"its mode is none that is served: {str(mode)[:40]}")
    provider = str(entry.get("litellm_provider"))
    provider = _SAME.get(provider, provider)
    if provider not in PROVIDERS:
        raise _Refused("no URL is known to be of its provider")
    if "search_context_cost_per_query" in entry and (provider == "perplexity" or "search" in key):
        raise _Refused("it searches for each request, which costs something beside tokens")
    if "off_peak_pricing" in entry:
        raise _Refused("its price depends on the time of the day")
    costs = dict(_costs(entry))
    minute = _minute(costs) if mode == HEARS else 0.0
    levels = _levels(costs) if "tiered_pricing" not in entry else _ranges(entry["tiered_pricing"], costs)
    name = key.removeprefix(f"{provider}/")
    # NB: where tokens have a price, what is said of seconds is what those come to (OpenAI's page of prices).
    if minute and not any(any(level.values()) for level in levels.values()):
        return provider, name, Price(audioInputPerMinute=minute)
    return provider, name, _price(levels, answers=mode in ANSWERS or mode == HEARS)


def _minute(costs: dict[str, float]) -> float:
    """Take what seconds of sound cost out of the fields; give what a minute does, 0 where nothing is said."""
    found = {value for name in _SECONDS if (value := costs.pop(name, 0.0))}
    if len(found) > 1:
        raise _Refused("it has two prices per second")
    return float(sum(Decimal(repr(value)) for value in found) * 60)


def _costs(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give every field that costs something, but for those that are left out."""
    for name, value in entry.items():
        if ("cost" not in name and not name.endswith("_pricing")) or name == "tiered_pricing" or value is None:
            continue
        if _LEFT_OUT.fullmatch(name):
            continue
        yield name, _number(name, value)


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= MOST_DOLLARS_PER_TOKEN:
        raise _Refused(f"`{name}` is no price")
    return float(value)


def _levels(costs: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """Give the fields by the bound of the input above which they hold, 0 first."""
    levels: dict[int, dict[str, float]] = {0: {}}
    for name, value in costs.items():
        tier = _TIER.fullmatch(name)
        base, bound = (tier[1], int(tier[2]) * 1000) if tier else (name, 0)
        levels.setdefault(bound, {})[base] = value
    return dict(sorted(levels.items()))


def _ranges(tiers: Any, costs: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """Give the same of a list of ranges of the input, which must follow one another from 0."""
    levels: dict[int, dict[str, float]] = {}
    end = 0
    for tier in tiers if isinstance(tiers, list) else ():
        bounds: Any = tier.get("range") if isinstance(tier, dict) else None
        if not _is_range(bounds) or bounds[0] != end:
            raise _Refused("its tiers are no ranges that follow one another")
        levels[int(end)] = dict(_costs({name: value for name, value in tier.items() if name != "range"}))
        end = bounds[1]
    if not levels:
        raise _Refused("its tiers are no ranges that follow one another")
    levels[0] = {**costs, **levels[0]}
    return levels


def _is_range(bounds: Any) -> bool:
    if not isinstance(bounds, list) or [type(bound) in (int, float) for bound in bounds] != [True, True]:
        return False
    return bool(0 <= bounds[0] < bounds[1] <= MOST_TOKENS)


def _price(levels: Mapping[int, Mapping[str, float]], *, answers: bool) -> Price:
    above: dict[str, float] = {}
    for level in levels.values():
        above |= level
        _check_kinds(above)
        if answers and not (above.get("input_cost_per_token") and above.get("output_cost_per_token")):
            raise _Refused("it has no price per token, or one of zero")
    base = levels[0]
    if not base.get("input_cost_per_token"):
        raise _Refused("it has no price per token, or one of zero")
    tiers = tuple(
        PriceTier(aboveInputTokens=bound, **said)
        for bound, level in levels.items()
        if bound and (said := _per_million(level))
    )
    return Price(**_per_million(base), tiers=tiers)


def _check_kinds(costs: Mapping[str, float]) -> None:
    for name, value in costs.items():
        like = _AS.get(name)
        if name in _FIELDS or not value:
            continue
        if name == _CACHED_SOUND and value <= costs.get("input_cost_per_audio_token", 0.0):
            continue  # Sound costs what sound costs, wherever it came from: see the gateway's `tokens.price`.
        if like is None:
            raise _Refused(f"it has a price for what nobody tells the number of: `{name}`")
        if value != costs.get(like, costs.get(_ELSE[like])):
            raise _Refused(f"it has a price for a kind of token that nobody tells: `{name}`")


_ELSE: Final[Mapping[str, str]] = {
    "cache_read_input_token_cost": "input_cost_per_token",
    "cache_creation_input_token_cost": "input_cost_per_token",
    "input_cost_per_token": "input_cost_per_token",
    "output_cost_per_token": "output_cost_per_token",
}


def _per_million(level: Mapping[str, float]) -> dict[str, float]:
    """Give the fields of a price; by the decimal digits of the numbers, so that 1.5e-07 is 0.15.

    A kind of token that would cost nothing has no price of its own, and costs what its like costs. (An answer without
    tokens, of embeddings, may cost nothing.)
    """
    found = {field: level[name] for name, field in _FIELDS.items() if name in level}
    found.setdefault("cachedInputPerMillion", level.get("input_cost_per_token_cache_hit", 0.0))
    return {
        field: float(Decimal(repr(value)) * 1_000_000)
        for field, value in found.items()
        if value or field == "outputPerMillion"
    }
