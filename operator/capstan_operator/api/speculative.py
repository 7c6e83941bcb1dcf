"""Speculative decoding: something cheap guesses the next tokens, and the model checks several of them in one step."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from capstan_operator.api.patterns import DRAFT_SOURCE
from capstan_operator.api.rules import speculative
from capstan_operator.api.schema import Part, Rule


class SpeculativeMethod(StrEnum):
    """What guesses the next tokens."""

    NGRAM = "NGram"
    DRAFT_MODEL = "DraftModel"
    EAGLE = "EAGLE"
    EAGLE3 = "EAGLE3"
    MTP = "MTP"
    MEDUSA = "Medusa"


class NGramWindow(Part):
    """How long the words are that are looked for in the prompt, in tokens."""

    min: int | None = Field(default=None, ge=1, le=64)
    """The shortest."""
    max: int | None = Field(default=None, ge=1, le=64)
    """The longest."""

    rules: ClassVar[tuple[Rule, ...]] = speculative.NGRAM


class SpeculativeSpec(Part):
    """What guesses tokens, and how many. The answers stay those of the model."""

    method: SpeculativeMethod = Field(strict=False)
    """NGram: what followed the last words earlier in the prompt. DraftModel: a smaller model with the same vocabulary.
    EAGLE, EAGLE3, Medusa: heads that were trained for the model. MTP: the prediction heads that the model has itself.
    SGLang does not know Medusa, TGI only NGram and Medusa."""
    model: Annotated[str, StringConstraints(min_length=6, max_length=512, pattern=DRAFT_SOURCE)] | None = None
    """Where the weights are that guess: hf://ORG/NAME or pvc://CLAIM/PATH. Required for DraftModel, EAGLE and EAGLE3,
    and for Medusa with vLLM; TGI takes Medusa's heads from `spec.model.source`."""
    tokens: int = Field(ge=1, le=64)
    """Tokens that are guessed in each step."""
    ngram: NGramWindow | None = None
    """What method NGram looks for. vLLM only. Default: as the engine has it."""

    rules: ClassVar[tuple[Rule, ...]] = speculative.SPECULATIVE
