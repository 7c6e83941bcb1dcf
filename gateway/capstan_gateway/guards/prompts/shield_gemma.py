"""ShieldGemma: one prompt for each of four policies, answered by Yes or No, and how likely each of them is.

https://huggingface.co/google/shieldgemma-9b: the prompt, the policies, and the score, which is the probability of `Yes`
among both. It is asked by the route of completions, because its prompt is not one of a chat.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capstan_gateway.guards.prompts.asked import Question, Shown, Way
from capstan_gateway.guards.prompts.harms import HARMLESS, Harms
from capstan_gateway.guards.prompts.quoted import disarmed
from capstan_gateway.guards.prompts.replies import first_token, text_of
from capstan_gateway.guards.prompts.unreadable import Unreadable

MOST_TOKENS: Final = 6_000
FOUND: Final = 0.5
"""What is likelier than not is flagged."""
QUESTION_CHARS: Final = 4_000
_DANGEROUS: Final = (
    "content that harms oneself and/or others (e.g., accessing or building firearms and explosive devices, promotion "
    "of terrorism, instructions for suicide)."
)
_HARASSING: Final = (
    "content that is malicious, intimidating, bullying, or abusive content targeting another individual (e.g., "
    "physical threats, denial of tragic events, disparaging victims of violence)."
)
_HATEFUL: Final = (
    "content that expresses, incites, or promotes hate based on race, gender, ethnicity, religion, nationality, sexual "
    "orientation, disability status, or caste; or that dehumanizes or belittles on these grounds (e.g., racial slurs, "
    "promotion of discrimination, calls to violence against protected groups)."
)
_SEXUAL: Final = (
    "content that contains references to sexual acts or other lewd content (e.g., sexually graphic descriptions, "
    "content aimed at causing arousal). Medical, scientific or educational content about health is allowed."
)
POLICIES: Final = {
    "dangerous-content": ("No Dangerous Content", _DANGEROUS),
    "harassment": ("No Harassment", _HARASSING),
    "hate-speech": ("No Hate Speech", _HATEFUL),
    "sexually-explicit": ("No Sexually Explicit Information", _SEXUAL),
}
_PROMPT: Final = (
    "You are a policy expert trying to help determine whether {what} is in violation of the defined safety policies."
    "\n\n<start_of_turn>\nHuman Question: {question}\n{answer}<end_of_turn>\n\n"
    'Our safety principle is defined in the below:\n\n* "{name}": {who} {policy}\n\n'
    "Does {judged} violate the above principle? Your answer must start with 'Yes' or 'No'. And then walk through step "
    "by step to be sure we answer correctly.\n\n"
)


class ShieldGemma:
    """All sizes of it."""

    most_tokens: Final = MOST_TOKENS
    together: Final = True

    @property
    def names(self) -> Mapping[str, str]:
        """Shorter ones."""
        return {"dangerous": "dangerous-content", "hate": "hate-speech", "sexual": "sexually-explicit"}

    @property
    def kinds(self) -> frozenset[str]:
        """Those of its policies."""
        return frozenset(POLICIES)

    def questions(self, texts: Sequence[Shown], *, scores: bool) -> list[Question]:  # noqa: ARG002
        """Ask four times about each."""
        return [
            Question(
                Way.COMPLETION,
                {"prompt": _prompt(shown, policy), "max_tokens": 1, "temperature": 0, "logprobs": 5},
                (number,), policy,
            )
            for number, shown in enumerate(texts)
            for policy in POLICIES
        ]  # fmt: skip

    def read(self, question: Question, answer: Mapping[str, Any]) -> list[Harms]:
        """Read how likely `Yes` is beside `No`; where that was not told, the word itself."""
        likely = first_token(answer)
        yes, no = likely.get("yes", 0.0), likely.get("no", 0.0)
        if yes + no > 0.0:
            score = yes / (yes + no)
        else:
            words = text_of(answer).split(maxsplit=1)
            word = words[0].strip(".,:;!*'\"").lower() if words else ""
            if word not in ("yes", "no"):
                raise Unreadable("the model answered neither Yes nor No")
            score = float(word == "yes")
        if score < FOUND:
            return [Harms(scores={question.about: score})]
        return [HARMLESS | Harms(frozenset((question.about,)), {question.about: score})]


def _prompt(shown: Shown, policy: str) -> str:
    name, words = POLICIES[policy]
    text = disarmed(shown.text)
    if not shown.answer:
        return _PROMPT.format(
            what="a user prompt", question=text, answer="", name=name,
            who="The prompt shall not contain or seek generation of", policy=words, judged="the human question",
        )  # fmt: skip
    return _PROMPT.format(
        what="an AI response to a prompt", question=disarmed(shown.question[-QUESTION_CHARS:]),
        answer=f"<end_of_turn>\n<start_of_turn>\nChatbot Response: {text}\n", name=name,
        who="The chatbot shall not generate", policy=words, judged="the Chatbot Response",
    )  # fmt: skip
