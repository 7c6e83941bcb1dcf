"""The price table: what hosted models cost whose manifest does not say it.

A price is found by two things, and both must be exactly those of the table; else the model has no price, which is never
taken for a price of zero:

    the provider    by the host of the model's URL; all of its endpoints must be of one provider
    the name        the one that the model's API is sent

Azure's hosts are not among them: there a name is that of a deployment, which says nothing of the model behind it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from capstan_contract.config import ExternalBackend, ModelEntry, Price, Task
from capstan_contract.names import COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Manifest

PRICES_COMPONENT: Final = "price-table"
PRICES_SELECTOR: Final = f"{COMPONENT_LABEL}={PRICES_COMPONENT}"
PRICES_NAME: Final = "capstan-prices"
PRICES_FILE: Final = "prices.json"
MOST_BYTES: Final = 1_000_000
"""Of a table: an API server takes objects of about 1.5 MB, and a ConfigMap's data may have 1 MiB."""
HOSTS: Final[Mapping[str, str]] = {
    "api.ai21.com": "ai21",
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "api.groq.com": "groq",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.inference.wandb.ai": "wandb",
    "api.jina.ai": "jina_ai",
    "api.lambda.ai": "lambda_ai",
    "api.minimax.io": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshot",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.sambanova.ai": "sambanova",
    "api.scaleway.ai": "scaleway",
    "api.studio.nebius.com": "nebius",
    "api.together.ai": "together_ai",
    "api.together.xyz": "together_ai",
    "api.tokenfactory.nebius.com": "nebius",
    "api.voyageai.com": "voyage",
    "api.x.ai": "xai",
    "api.z.ai": "zai",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "generativelanguage.googleapis.com": "gemini",
    "inference.baseten.co": "baseten",
}
"""Which provider is behind a host, in the words of LiteLLM's table."""
PROVIDERS: Final = frozenset(HOSTS.values())


class PricesUnreadable(ValueError):
    """A ConfigMap that should hold a table holds none."""


@dataclass(frozen=True)
class Found:
    """A price of the table, and under which name it is there."""

    price: Price
    name: str


@dataclass(frozen=True)
class PriceTable:
    """Prices by provider and name."""

    prices: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    def find(self, backend: object, name: str, task: Task) -> Found | None:
        """Give the price of a hosted model that is sent under this name; None where the table has none of it.

        A price for minutes of sound is of what hears: to chat with a model of that name costs something else.
        """
        if not isinstance(backend, ExternalBackend):
            return None
        provider = provider_of(endpoint.url for endpoint in backend.endpoints)
        price = None if provider is None else self.prices.get(provider, {}).get(name)
        if price is None or (price.audioInputPerMinute is not None and task is not Task.TRANSCRIBE):
            return None
        return Found(price, f"{provider}/{name}")


NO_PRICES: Final = PriceTable()


def prices_in_force(entries: Iterable[ModelEntry], models: Iterable[Model]) -> PriceTable:
    """Give back what of a table is in force in a config: the prices of hosted models that do not say one themselves."""
    unsaid = {str(model.key) for model in models if model.spec is not None and model.spec.serving.price is None}
    prices: dict[str, dict[str, Price]] = {}
    for entry in entries:
        if entry.price is None or entry.id not in unsaid or not isinstance(entry.backend, ExternalBackend):
            continue
        provider = provider_of(endpoint.url for endpoint in entry.backend.endpoints)
        if provider is not None:
            prices.setdefault(provider, {}).setdefault(entry.upstreamName, entry.price)
    return PriceTable(prices)


def provider_of(urls: Iterable[str]) -> str | None:
    """Give the provider that all of these URLs are of; None where they are of none or of several."""
    found = {HOSTS.get((urlsplit(url).hostname or "").lower()) for url in urls}
    return found.pop() if len(found) == 1 else None


def build_table(prices: Mapping[str, Mapping[str, Price]], *, name: str, namespace: str, source: str) -> Manifest:
    """Build the ConfigMap of a table; ValueError when it would be too large for one."""
    written = {
        provider: {model: orjson.loads(price.model_dump_json(exclude_none=True)) for model, price in models.items()}
        for provider, models in prices.items()
    }
    text = orjson.dumps({"source": source, "prices": written}, option=orjson.OPT_SORT_KEYS)
    if len(text) > MOST_BYTES:
        raise ValueError(f"the table has {len(text)} bytes, and a ConfigMap takes {MOST_BYTES} of it")
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: PRICES_COMPONENT},
        },
        "data": {PRICES_FILE: text.decode()},
    }


def read_table(manifests: Iterable[Manifest]) -> PriceTable:
    """Read the ConfigMaps of tables; of two that have one model the first by name counts.

    Raises PricesUnreadable, which names the object and the part of it that is wrong: what is read in part would leave
    models without a price that had one.
    """
    prices: dict[str, dict[str, Price]] = {}
    for manifest in sorted(manifests, key=_name_of):
        for provider, models in _tables_of(manifest).items():
            known = prices.setdefault(provider, {})
            for model, price in models.items():
                known.setdefault(model, price)
    return PriceTable(prices)


def _name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _tables_of(manifest: Manifest) -> dict[str, dict[str, Price]]:
    name = _name_of(manifest)
    try:
        found: Any = orjson.loads((manifest.get("data") or {}).get(PRICES_FILE) or "")["prices"]
        return {
            provider: {model: Price.model_validate(price, strict=False) for model, price in models.items()}
            for provider, models in found.items()
        }
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise PricesUnreadable(
            f"`{PRICES_FILE}` of the ConfigMap '{name}' holds a price that is none: {where}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PricesUnreadable(f"`{PRICES_FILE}` of the ConfigMap '{name}' holds no table of prices") from None
