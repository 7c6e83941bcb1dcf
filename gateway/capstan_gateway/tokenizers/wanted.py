"""Which tokenizer a model of the config has. Pure."""

from dataclasses import dataclass

from capstan_contract.config import CascadeBackend, ExternalBackend, ModelEntry, Provider, RouterBackend
from capstan_contract.names import stable_id
from capstan_gateway.tokenizers.encodings import encoding_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """The names of tokenizers that a model may have, the first that is there."""

    names: tuple[str, ...]
    named: bool = False
    """Whether the model itself names it: then it is a fault when it is not there."""


def wanted_of(entry: ModelEntry) -> Wanted | None:
    """Give the tokenizer of a model: the one that it names, OpenAI's for its models, else one of the model's own id.

    None where there can be none: of virtual models, and of Anthropic, who has published no tokenizer.
    """
    backend = entry.backend
    if isinstance(backend, RouterBackend | CascadeBackend):
        return None
    if entry.tokenizer:
        return Wanted((entry.tokenizer,), named=True)
    provider = backend.provider if isinstance(backend, ExternalBackend) else None
    if provider is Provider.ANTHROPIC:
        return None
    if provider is Provider.OPENAI:
        encoding = encoding_of(entry.upstreamName)
        return None if encoding is None else Wanted((encoding,))
    own = stable_id(entry.id)  # A revision that is tried has the tokenizer of its model.
    return Wanted((own, own.replace("/", ".")))
