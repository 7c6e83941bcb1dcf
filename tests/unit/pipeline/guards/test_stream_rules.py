"""Rules of guards on streams: what closes them, what goes on in time, what is counted, whose text it was."""

import json
import re
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.guards import Action, FormatGuard, OnError, Source
from capstan_gateway.errors import AnswerNotChecked
from capstan_gateway.guards.patience import go_on
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.guards.port import Cost, Finding, Scan
from capstan_gateway.guards.window import FAR_STEP, LONG_FROM, LONG_STEP
from capstan_gateway.life.threads import Busy
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.streams import FAR_SECONDS, guards_of
from capstan_gateway.pipeline.guards.text_filter import MOST_TEXTS
from capstan_gateway.streaming.filters import HoldLimits
from support.guarded import Answer, Asking, Judged, Words, a_guard, call, delta, guarded

SECRET = Words(("secret",))
STOP = delta(finish="stop")


@dataclass(frozen=True)
class Hangs:
    """Is too slow for the loop, and beside it has no end until nobody waits."""

    cost: Cost = Cost.CHEAP
    reach: int = 1

    def scan(self, text: str, source: Source) -> Scan:
        """Work."""
        while text or source:
            go_on()
            if threading.current_thread() is not threading.main_thread():
                threading.Event().wait(0.001)
        return Scan()

    def safe_end(self, text: str) -> int:
        """Give what is decided."""
        return len(text)


def decided(judged: Judged, answer: Answer, on_error: OnError, reason: str) -> None:
    """Look at what became of a stream of which a guard could not decide."""
    judged.ask.hold()
    judged.ask.leave()
    (failed,) = [failed for decision, _ in judged.decisions for failed in decision.failed]
    assert failed.reason == reason
    if on_error is OnError.OPEN:
        assert (answer.text(), answer.error) == ("held text", None)
    else:
        assert (answer.text(), type(answer.error)) == ("", AnswerNotChecked)


@pytest.mark.parametrize("on_error", OnError)
def test_a_near_guard_that_is_too_slow_closes_or_not(on_error: OnError) -> None:
    """What takes longer than the guard may is stopped, and nothing goes on for it unless the policy lets it."""
    judged = Judged([a_guard(Hangs(), seconds=0.05, on_error=on_error)])
    decided(judged, guarded([], [delta(content="held text"), STOP], judged=judged), on_error, "timeout")


def test_the_deadline_of_the_request_is_above_that_of_a_near_guard() -> None:
    """Nobody works longer for a request than it may last."""
    judged = Judged([a_guard(Hangs(), seconds=60.0)])
    judged.ask.expires_at = 0.05
    decided(judged, guarded([], [delta(content="held text"), STOP], judged=judged), OnError.CLOSED, "timeout")


@pytest.mark.parametrize("on_error", OnError)
def test_a_near_guard_for_which_there_is_no_room_closes_or_not(on_error: OnError) -> None:
    """Where as much work as may wait does wait, a guard could not decide."""

    class Full:
        async def run(self, *work: Any, **size: Any) -> Any:
            raise Busy(work, size)

    judged = Judged([a_guard(Hangs(), on_error=on_error)])
    judged.shared.lanes = SimpleNamespace(of=lambda tenant: Full(), close=lambda: None)  # noqa: ARG005
    decided(judged, guarded([], [delta(content="held text"), STOP], judged=judged), on_error, "busy")


@dataclass(frozen=True)
class Behind:
    """Finds a number behind a word that is far in front of it."""

    cost: Cost = Cost.CHEAP
    reach: int = 200

    def scan(self, text: str, source: Source) -> Scan:
        """Give the numbers."""
        found = [Finding("No", *found.span(1)) for found in re.finditer(r"no:.{0,190}?(\d{4})", text)]
        return Scan(found if source else ())

    def safe_end(self, text: str) -> int:
        """Give what is decided."""
        return max(0, len(text) - 4)


def test_of_several_guards_the_one_that_sees_furthest_says_how_much_is_kept() -> None:
    """What has gone on is kept for the one with the longest reach, whichever of them is first."""
    text = "no:" + "x" * 180 + "1234" + "y" * 80
    for guards in (
        [a_guard(Behind()), a_guard(Words(("zz",)), name="h")],
        [a_guard(Words(("zz",))), a_guard(Behind(), name="h")],
    ):
        answer = guarded(guards, [*(delta(content=one) for one in text), STOP])
        assert (answer.finish(), "1" in answer.text()) == ("content_filter", False)


def test_far_into_a_text_words_wait_for_one_window_at_most() -> None:
    """Where something that came before is kept, too, all that is decided goes on."""
    text = "1234" * ((LONG_FROM + 4 * LONG_STEP) // 4)
    answer = guarded(
        [a_guard(SECRET)], [delta(content=text[at : at + 4]) for at in range(0, len(text), 4)], whole=False
    )
    assert answer.text() == text


@dataclass(frozen=True)
class AtTheEnd:
    """Finds a word where nothing of a word follows it."""

    cost: Cost = Cost.CHEAP
    reach: int = 8

    def scan(self, text: str, source: Source) -> Scan:
        """Give the word."""
        return Scan([Finding("W", *found.span()) for found in re.finditer(r"bomb(?!\w)", text)] if source else ())

    def safe_end(self, text: str) -> int:
        """Give what is decided: in front of a word that goes on."""
        return len(text.rstrip("abcdefghijklmnopqrstuvwxyz"))


def test_what_more_text_makes_another_thing_blocks_nothing() -> None:
    """A match that is not decided is none yet: a block waits until it is."""
    chunks = [delta(content=" bomb"), None, delta(content="astic"), STOP]
    assert guarded([a_guard(AtTheEnd())], chunks).text() == " bombastic"
    answer = guarded([a_guard(AtTheEnd())], [delta(content=" bomb"), None, delta(content="."), STOP])
    assert (answer.text(), answer.finish()) == (" ", "content_filter")


def test_a_block_is_said_also_where_another_guard_failed() -> None:
    """Of two that are asked together, one that blocks and one that fails, the client is told of the block."""
    guards = [a_guard(asking=Asking("secret")), a_guard(name="h", asking=Asking("x", error=OSError("down")))]
    answer = guarded(guards, [delta(content="a secret"), STOP])
    assert (answer.finish(), answer.error) == ("content_filter", None)


def test_it_is_told_of_which_choice_a_text_was() -> None:
    """The path of what is found names the choice."""
    judged = Judged([a_guard(SECRET)])
    guarded([], [delta(0, content="fine"), delta(1, content="a secret"), STOP], judged=judged)
    ((_, pieces),) = judged.decisions
    assert [piece.path for piece in pieces] == ["choices[1].content"]


def test_how_long_guards_of_a_stream_worked_is_told() -> None:
    """Of those that decide by themselves, and of those that are asked, each in one sum."""
    guards = [a_guard(SECRET), a_guard(name="h", asking=Asking("x"))]
    judged = Judged(guards)
    guarded([], [delta(content="fine " * FAR_STEP), STOP], judged=judged)
    judged.ask.hold()
    judged.ask.leave()
    assert [guard for decision, _ in judged.decisions for guard, _ in decision.seconds] == guards


def test_who_doubts_and_asks_is_asked_in_a_stream() -> None:
    """A guard with a detector that asks in doubt is one that judges windows, however cheap its detector is."""

    @dataclass(frozen=True)
    class Doubts(Words):
        def scan(self, text: str, source: Source) -> Scan:
            return Scan((), doubt=0.5) if source else Scan()

    asking = Asking("secret")
    answer = guarded([a_guard(Doubts(("zz",)), asking=asking)], [delta(content="a secret"), STOP])
    assert (answer.finish(), answer.text(), asking.seen) == ("content_filter", "", ["a secret"])


def test_usage_is_on_the_last_of_the_chunks_that_one_becomes() -> None:
    """Once, and null on the others, as engines write it."""
    chunk = delta(0, content="fine")
    chunk["choices"] += delta(1, content="fine too")["choices"]
    answer = guarded([a_guard(SECRET)], [chunk, {**chunk, "usage": {"total_tokens": 7}, "choices": [
        {**one, "delta": {}, "finish_reason": "stop"} for one in chunk["choices"]]}])  # fmt: skip
    assert [one["usage"] for one in answer.chunks if "usage" in one] == [None, {"total_tokens": 7}]


@pytest.mark.parametrize("kind", ["choices", "calls"])
def test_so_many_texts_may_be_and_no_more(kind: str) -> None:
    """Choices count, and what each says."""

    def chunks(count: int) -> list[Any]:
        if kind == "choices":
            return [delta(number, content="x") for number in range(count // 2)]
        return [call("{", index=number, name="f") for number in range(count - 1)]

    assert guarded([a_guard(SECRET)], chunks(MOST_TEXTS)).error is None
    assert cast(Any, guarded([a_guard(SECRET)], chunks(MOST_TEXTS + 2)).error).code == "answer_not_checked"
    many = [delta(number, role="assistant") for number in range(MOST_TEXTS + 1)]
    assert cast(Any, guarded([a_guard(SECRET)], many).error).code == "answer_not_checked"


def test_what_other_choices_may_say_is_said_before_a_block() -> None:
    """A block at a silence takes back nothing of what was let go on by then."""
    chunks = [delta(0, content="fine"), delta(1, content="a sec"), delta(1, content="ret"), None]
    answer = guarded([a_guard(SECRET)], chunks, whole=False)
    assert (answer.text(), answer.text(choice=1), answer.stopped) == ("fine", "", "content_filter")
    chunks = [delta(reasoning_content="fine"), delta(content="a sec"), delta(content="ret"), None]
    answer = guarded([a_guard(SECRET)], chunks, whole=False)
    assert (answer.text("reasoning_content"), answer.text(), answer.stopped) == ("fine", "", "content_filter")


def test_the_arguments_of_older_calls_are_json_too() -> None:
    """Of a `function_call` as of `tool_calls`: what is redacted outside of a string becomes one."""
    chunks = [
        delta(function_call={"name": "f", "arguments": '{"a": sec'}), delta(function_call={"arguments": 'ret}'}), STOP,
    ]  # fmt: skip
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], chunks)
    written = "".join(
        one["delta"].get("function_call", {}).get("arguments", "")
        for chunk in answer.chunks
        for one in chunk["choices"]
    )
    assert json.loads(written) == {"a": "[W0_1]"}


def test_refusals_are_judged_and_go_on() -> None:
    """What a model says to refuse is a text like others."""
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], [delta(refusal="no sec"), delta(refusal="ret"), STOP])
    assert answer.text("refusal") == "no [W0_1]"


def test_how_long_a_stream_may_be_held_is_by_its_guards() -> None:
    """Who judges windows of a slow model may hold text for longer, who judges the whole until the request's deadline,
    and neither for longer than that."""
    form = FormatGuard(type="Format", name="form", appliesTo=(Source.TEXT,), maxCharacters=3)
    usual = HoldLimits().seconds

    def seconds(guard: Any, left: float = 1000.0) -> float:
        judged = Judged([guard])
        judged.ask.expires_at = left
        return guards_of(cast(Judging, judged), Placeholders({}))[1].seconds

    assert seconds(a_guard(SECRET)) == usual
    assert seconds(a_guard(asking=Asking("x"))) == FAR_SECONDS
    assert seconds(a_guard(asking=Asking("x")), usual + 10) == usual + 10
    assert seconds(a_guard(SECRET, guard=form)) == 1000.0
