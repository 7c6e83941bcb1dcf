"""OpenAI's moderation API: several texts in one call, thirteen categories of its own, each flagged and with a score.

https://platform.openai.com/docs/api-reference/moderations. Others speak it with categories of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capstan_gateway.guards.prompts.asked import Question, Shown, Way, many_at_once
from capstan_gateway.guards.prompts.harms import UNNAMED, Harms, is_score, slug
from capstan_gateway.guards.prompts.replies import rows_of
from capstan_gateway.guards.prompts.unreadable import Unreadable

CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
MOST_TOKENS: Final = 8_000
MOST_CATEGORIES: Final = 256


class OpenAiModeration:
    """The API of whoever has it."""

    most_tokens: Final = MOST_TOKENS
    together: Final = False

    @property
    def names(self) -> Mapping[str, str]:
        """None beside its own."""
        return {}

    @property
    def kinds(self) -> None:
        """Services have some of their own."""
        return None

    def questions(self, texts: Sequence[Shown], *, scores: bool) -> list[Question]:  # noqa: ARG002
        """Ask about many at once."""
        return many_at_once(Way.MODERATE, [one.text for one in texts])

    def read(self, question: Question, answer: Mapping[str, Any]) -> list[Harms]:
        """Read the results, which are as many as the texts and in their order."""
        return [_harms(row) for row in rows_of(answer, len(question.numbers), "results")]


def _harms(row: Mapping[str, Any]) -> Harms:
    flagged, categories, scores = row.get("flagged"), row.get("categories"), row.get("category_scores")
    if not isinstance(flagged, bool) or not isinstance(categories, dict) or len(categories) > MOST_CATEGORIES:
        raise Unreadable("a result does not say whether the text is flagged")
    kinds = frozenset(slug(name) for name, there in categories.items() if there is True)
    told = {
        slug(name): float(score)
        for name, score in (scores.items() if isinstance(scores, dict) else ())
        if is_score(score)
    }
    if flagged and not kinds:
        kinds = frozenset((UNNAMED,))
    return Harms(kinds, told)
