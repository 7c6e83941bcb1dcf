"""Which format a moderating model has: as the policy says, else by its name."""

import re
from collections.abc import Sequence
from typing import Final

from capstan_contract.guards import ModerationCategory, ModerationFormat
from capstan_gateway.guards.prompts.asked import Format
from capstan_gateway.guards.prompts.classified import Classified
from capstan_gateway.guards.prompts.harms import slug
from capstan_gateway.guards.prompts.judge import Judge
from capstan_gateway.guards.prompts.llama_guard import LlamaGuard
from capstan_gateway.guards.prompts.openai import OpenAiModeration
from capstan_gateway.guards.prompts.shield_gemma import ShieldGemma
from capstan_gateway.guards.prompts.unreadable import Unreadable

_LLAMA_GUARD: Final = re.compile(r"llama[-_ .]?guard", re.IGNORECASE)
_SHIELD_GEMMA: Final = re.compile(r"shield[-_ .]?gemma", re.IGNORECASE)
_MODERATION: Final = re.compile(r"moderation", re.IGNORECASE)


def known_format(*names: str) -> ModerationFormat | None:
    """Give the format that one of a model's names tells; None where none does."""
    for name in names:
        if _LLAMA_GUARD.search(name):
            return ModerationFormat.LLAMA_GUARD
        if _SHIELD_GEMMA.search(name):
            return ModerationFormat.SHIELD_GEMMA
        if _MODERATION.search(name):
            return ModerationFormat.OPENAI
    return None


def format_of(wanted: ModerationFormat, *names: str, classifies: bool = False) -> Format:
    """Give how a model is asked: with Auto by its names, and one that none of them tells is asked as a judge, or, where
    it `classifies`, by its labels."""
    found = known_format(*names) if wanted is ModerationFormat.AUTO else wanted
    if found is ModerationFormat.LLAMA_GUARD:
        return LlamaGuard(" ".join(names))
    if found is ModerationFormat.SHIELD_GEMMA:
        return ShieldGemma()
    if found is ModerationFormat.OPENAI:
        return OpenAiModeration()
    return Classified() if classifies else Judge()


def check_categories(form: Format, wanted: Sequence[ModerationCategory]) -> None:
    """Raise Unreadable when a policy wants a category that the model never tells: its guard would find nothing."""
    if form.kinds is None:
        return
    for category in wanted:
        if form.names.get(category.name.strip().lower(), slug(category.name)) not in form.kinds:
            listed = ", ".join(sorted(form.kinds))
            raise Unreadable(f"`categories` has {category.name!r}, which the model does not tell: it tells {listed}")
