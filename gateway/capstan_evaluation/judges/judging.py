"""Judges at work: by a criterion, and two answers beside each other. What is asked and read is in the rooms beside."""

from dataclasses import dataclass, field
from typing import Final

from capstan_evaluation.asking import Chat
from capstan_evaluation.judges.prompts import FIRST, GRADES, SECOND, TIE, YES, Question, ask_criterion, ask_pairwise
from capstan_evaluation.judges.verdicts import MOST_REASON, Said, read_verdict
from capstan_evaluation.records import Score, ScoreState, Stamp
from capstan_evaluation.suites.suite import Rubric

BETTER: Final = 1.0
EQUAL: Final = 0.5
WORSE: Final = 0.0
CUT_OFF: Final = "length"
"""The API's reason of an answer that had no more tokens."""


@dataclass(frozen=True)
class Judge:
    """A model that judges."""

    chat: Chat
    model: str
    """Its name, for the stamp."""
    rubric: Rubric = field(default_factory=Rubric)

    async def by_criterion(
        self, conversation: str, answer: str, *, name: str, criterion: str, expected: str | None = None
    ) -> Score:
        """Judge an answer. A judge that fails is a score of the state Failed, one that is not sure CouldNotTell.

        Args:
            conversation: What was asked, see `conversation_text`.
            answer: What is judged.
            name: Of the score.
            criterion: In words.
            expected: A right answer, as a reference.
        """
        question = ask_criterion(conversation, answer, criterion=criterion, rubric=self.rubric, expected=expected)
        binary = self.rubric.scale == "Binary"
        said = await self._ask(question)
        if isinstance(said, str):
            return self._without(name, question, ScoreState.FAILED, said, binary=binary)
        if said.verdict is None:
            return self._without(name, question, ScoreState.COULD_NOT_TELL, said.reason, binary=binary)
        value = float(said.verdict == YES) if binary else GRADES.index(said.verdict) / (len(GRADES) - 1)
        return Score(scorer=name, value=value, binary=binary, reason=said.reason, stamp=self._stamp(question))

    async def pairwise(
        self,
        conversation: str,
        answer: str,
        baseline: str,
        *,
        name: str,
        criterion: str = "",
        expected: str | None = None,
    ) -> Score:
        """Judge an answer beside the baseline's, in both orders: 1 better, 0.5 as good, 0 worse.

        Verdicts that contradict each other are those of a judge that could not tell. Equal answers are as good as each
        other, and nobody is asked.
        """
        questions = [
            ask_pairwise(conversation, *pair, criterion=criterion, rubric=self.rubric, expected=expected)
            for pair in ((answer, baseline), (baseline, answer))
        ]
        if answer.strip() == baseline.strip():
            return self._beside(name, questions[0], EQUAL, "the same answer")
        told: list[Said] = []
        for question in questions:
            said = await self._ask(question)
            if isinstance(said, str):
                return self._beside(name, question, None, said, state=ScoreState.FAILED)
            told.append(said)
            if said.verdict is None:
                return self._beside(name, question, None, said.reason)
        value = consistent(told[0].verdict, told[1].verdict)
        reason = told[0].reason
        if value is None:
            reason = "the judge contradicted itself when the order of the answers changed"
        return self._beside(name, questions[0], value, reason)

    async def order(
        self, conversation: str, first: str, second: str, *, criterion: str = "", expected: str | None = None
    ) -> Said | str:
        """Ask once which of two answers is better, to check a judge; a text is the code of what went wrong."""
        return await self._ask(
            ask_pairwise(conversation, first, second, criterion=criterion, rubric=self.rubric, expected=expected)
        )

    async def _ask(self, question: Question) -> Said | str:
        """Give what the judge says, or why it says nothing."""
        answer = await self.chat.chat(question.document)
        if answer.error:
            return f"the judge: {answer.error}"
        if answer.finishReason == CUT_OFF:
            # NB: what it quotes comes before what it says.
            return Said(None, "the judge did not come to an end")
        return read_verdict(answer.text, question.verdicts)

    def _stamp(self, question: Question) -> Stamp:
        return Stamp(model=self.model, promptHash=question.template, rubric=self.rubric.version)

    def _beside(
        self,
        name: str,
        question: Question,
        value: float | None,
        reason: str,
        *,
        state: ScoreState = ScoreState.COULD_NOT_TELL,
    ) -> Score:
        """Give the score of a comparison; `state` is that of one without a value."""
        return Score(
            scorer=name,
            state=state if value is None else ScoreState.SCORED,
            value=value,
            binary=False,
            pairwise=True,
            reason=reason[:MOST_REASON],
            stamp=self._stamp(question),
        )

    def _without(self, name: str, question: Question, state: ScoreState, reason: str, *, binary: bool) -> Score:
        return Score(
            scorer=name,
            state=state,
            value=None,
            binary=binary,
            reason=reason[:MOST_REASON],
            stamp=self._stamp(question),
        )


def consistent(first: str | None, swapped: str | None) -> float | None:
    """Give what two verdicts say together of the answer that was first in the first order; None: they contradict.

    Args:
        first: The verdict with the answer first.
        swapped: With the answer second.
    """
    mirrored = {FIRST: SECOND, SECOND: FIRST, TIE: TIE}
    if first is None or swapped is None or first != mirrored[swapped]:
        return None
    return {FIRST: BETTER, TIE: EQUAL, SECOND: WORSE}[first]
