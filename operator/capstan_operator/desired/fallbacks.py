"""Fallbacks are names, and a name can change hands: they are bound to models that the namespace may use.

A gateway resolves a fallback by its name. If any model could be one, whoever makes a model of that name in another
namespace would be sent prompts that are none of its business.
"""

from collections.abc import Mapping

from capstan_contract.config import ModelEntry
from capstan_operator.desired.live import key_of
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.types import LostFallback


def bind_fallbacks(
    entry: ModelEntry, owners: Mapping[str, str], rules: NameRules
) -> tuple[ModelEntry, tuple[LostFallback, ...]]:
    """Give the entry with the fallbacks that it may use, and what it has to do without.

    `owners` gives the id of the model that is served under each name.
    """
    lost = tuple(
        LostFallback("spec.serving.fallbacks", name, *objection)
        for name in entry.fallbacks
        if (objection := _objection(entry, owners.get(name), rules))
    )
    if not lost:
        return entry, ()
    gone = {one.name for one in lost}
    return entry.model_copy(update={"fallbacks": tuple(name for name in entry.fallbacks if name not in gone)}), lost


def _objection(entry: ModelEntry, owner: str | None, rules: NameRules) -> tuple[str, bool] | None:
    if owner is None:
        return "no LLMModel is served as", False
    if rules.may_fall_back(key_of(entry.id).namespace, key_of(owner)):
        return None
    return "is of another namespace", True
