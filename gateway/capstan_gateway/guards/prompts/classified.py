"""A classifier that moderates: its label is the category, unless it is one of what is harmless."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capstan_gateway.guards.prompts.asked import Question, Shown
from capstan_gateway.guards.prompts.attacks import WINDOW_TOKENS, classifier_questions
from capstan_gateway.guards.prompts.harms import UNNAMED, Harms, is_score, slug
from capstan_gateway.guards.prompts.replies import rows_of
from capstan_gateway.guards.prompts.unreadable import Unreadable

HARMLESS: Final = frozenset(
    ("label_0", "safe", "benign", "ok", "neutral", "normal", "clean", "non-toxic", "not-toxic", "nontoxic", "not-hate",
     "non-hate", "nothate", "no-hate", "non-offensive", "not-offensive", "non-violent", "sfw", "acceptable")
)  # fmt: skip
UNKNOWN: Final = frozenset(("label_1",))
"""Labels that say that something is wrong, and not what."""


class Classified:
    """Any model of task classify with one label a text."""

    most_tokens: Final = WINDOW_TOKENS
    together: Final = False

    @property
    def names(self) -> Mapping[str, str]:
        """None beside its own."""
        return {}

    @property
    def kinds(self) -> None:
        """Its labels, which nobody has told."""
        return None

    def questions(self, texts: Sequence[Shown], *, scores: bool) -> list[Question]:  # noqa: ARG002
        """Ask about many at once."""
        return classifier_questions([one.text for one in texts])

    def read(self, question: Question, answer: Mapping[str, Any]) -> list[Harms]:
        """Read the label of each, and how likely it is."""
        return [_harms(row) for row in rows_of(answer, len(question.numbers))]


def _harms(row: Mapping[str, Any]) -> Harms:
    label, probs = row.get("label"), row.get("probs")
    if not isinstance(label, str) or not label.strip():
        raise Unreadable("the classifier answered without a label")
    if not isinstance(probs, list) or not probs or not all(map(is_score, probs)):
        raise Unreadable("the classifier answered without probabilities")
    kind = slug(label)
    if kind in HARMLESS or kind.replace("_", "-") in HARMLESS:
        return Harms()
    kind = UNNAMED if kind in UNKNOWN else kind
    return Harms(frozenset((kind,)), {kind: float(max(probs))})
