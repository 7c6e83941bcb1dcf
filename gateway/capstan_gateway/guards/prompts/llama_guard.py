"""Llama Guard 1 to 4: its chat template writes the prompt; its answer is `safe`, or `unsafe` and codes.

https://www.llama.com/docs/model-cards-and-prompt-formats/llama-guard-3/ and the cards of the others. Categories of 3
and 4 are those of MLCommons; the first one has O1 to O6, the second eleven that are numbered differently. Whoever
serves the model has its template (vLLM from its files, Ollama in its library), so that it is sent plain messages:
what is asked as a user's, and an answer behind what was asked. The role of the last message says which one is judged.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from capstan_gateway.guards.prompts.asked import Question, Shown, Way
from capstan_gateway.guards.prompts.harms import HARMLESS, OTHER, UNNAMED, Harms
from capstan_gateway.guards.prompts.quoted import disarmed
from capstan_gateway.guards.prompts.replies import first_token, text_of
from capstan_gateway.guards.prompts.unreadable import Unreadable

FIRST: Final = {
    "o1": "violence-and-hate", "o2": "sexual-content", "o3": "criminal-planning", "o4": "guns-and-illegal-weapons",
    "o5": "regulated-or-controlled-substances", "o6": "self-harm",
}  # fmt: skip
SECOND: Final = {
    "s1": "violent-crimes", "s2": "non-violent-crimes", "s3": "sex-related-crimes", "s4": "child-sexual-exploitation",
    "s5": "specialized-advice", "s6": "privacy", "s7": "intellectual-property", "s8": "indiscriminate-weapons",
    "s9": "hate", "s10": "suicide-self-harm", "s11": "sexual-content",
}  # fmt: skip
NEWER: Final = {
    "s1": "violent-crimes", "s2": "non-violent-crimes", "s3": "sex-related-crimes", "s4": "child-sexual-exploitation",
    "s5": "defamation", "s6": "specialized-advice", "s7": "privacy", "s8": "intellectual-property",
    "s9": "indiscriminate-weapons", "s10": "hate", "s11": "suicide-self-harm", "s12": "sexual-content",
    "s13": "elections", "s14": "code-interpreter-abuse",
}  # fmt: skip
MOST_TOKENS: Final = 6_000
"""Of the 8,192 of the oldest ones, the prompt itself taken off; more of one text dilutes what is in it."""
QUESTION_CHARS: Final = 4_000
_SECOND: Final = re.compile(r"guard[-_ ]?2\b", re.IGNORECASE)
_CODE: Final = re.compile(r"[SO]\d{1,2}")


class LlamaGuard:
    """One of the four."""

    most_tokens: Final = MOST_TOKENS
    together: Final = True

    def __init__(self, model: str) -> None:
        self._codes: Final = {**FIRST, **(SECOND if _SECOND.search(model) else NEWER)}

    @property
    def names(self) -> Mapping[str, str]:
        """Its codes."""
        return self._codes

    @property
    def kinds(self) -> frozenset[str]:
        """Those of its codes."""
        return frozenset(self._codes.values())

    def questions(self, texts: Sequence[Shown], *, scores: bool) -> list[Question]:
        """Ask about each by itself: the template takes one conversation."""
        # NB: 32 tokens are room for all of its codes.
        more: dict[str, Any] = {"max_tokens": 32, "temperature": 0}
        if scores:
            more.update(logprobs=True, top_logprobs=5)
        return [
            Question(Way.CHAT, {"messages": _messages(shown), **more}, (number,)) for number, shown in enumerate(texts)
        ]

    def read(self, question: Question, answer: Mapping[str, Any]) -> list[Harms]:  # noqa: ARG002
        """Read `safe`, or `unsafe` and the codes in the lines behind it; everything else is unreadable."""
        lines = [line.strip() for line in text_of(answer).splitlines() if line.strip()]
        if lines == ["safe"]:
            return [HARMLESS]
        if not lines or lines[0] != "unsafe":
            raise Unreadable("the model answered neither that the text is safe nor that it is not")
        codes = _CODE.findall(" ".join(lines[1:]))
        kinds = frozenset(self._codes.get(code.lower(), OTHER) for code in codes) or frozenset((UNNAMED,))
        likely = first_token(answer)
        score = likely.get("unsafe")
        # NB: it tells how likely `unsafe` is, and that of no category: each is as likely as that.
        return [Harms(kinds, {} if score is None else dict.fromkeys(kinds, score))]


def _messages(shown: Shown) -> list[dict[str, str]]:
    text = disarmed(shown.text)
    if not shown.answer:
        return [{"role": "user", "content": text}]
    asked = disarmed(shown.question[-QUESTION_CHARS:]) or "-"
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": text}]
