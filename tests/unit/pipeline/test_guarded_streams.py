"""Guards on streams, case by case: what goes on when, what a client gets of a block and of a failure, what is told."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, cast

import pytest

from capstan_contract.guards import Action, FormatGuard, OnError, RegexGuard, RegexPattern, Source
from capstan_gateway.errors import AnswerNotChecked
from capstan_gateway.guards.placeholders import Naming
from capstan_gateway.guards.plain.regex import build_regex_detector
from capstan_gateway.guards.port import Cost, Finding, Scan
from capstan_gateway.guards.window import FAR_STEP, FIRST, OVERLAP, STEP
from capstan_gateway.pipeline.guards import whole
from support.guarded import Answer, Asking, Judged, Words, a_guard, call, delta, guarded

SECRET = Words(("secret",))
TEXT = "x" * 40


@dataclass(frozen=True)
class Behind:
    """Finds a number only behind a word that is some way in front of it."""

    cost: Cost = Cost.CHEAP
    reach: int = 30

    def scan(self, text: str, source: Source) -> Scan:
        """Give the numbers."""
        return Scan([Finding("No", *found.span(1)) for found in re.finditer(r"no:.{0,20}?(\d{4})(?!\d)", text)])

    def safe_end(self, text: str) -> int:
        """Give what is decided."""
        return max(0, len(text) - 5)


@dataclass(frozen=True)
class Failing:
    """Cannot decide."""

    cost: Cost = Cost.CHEAP
    reach: int = 1

    def scan(self, text: str, source: Source) -> Scan:
        """Fail."""
        raise RuntimeError(text, source)

    def safe_end(self, text: str) -> int:
        """Give what is decided."""
        return len(text)


def test_the_first_words_wait_for_one_window_at_most() -> None:
    """Text goes on as soon as a window of it is there, but for what may still become a match."""
    chunks = [delta(content="1234") for _ in range(STEP // 4)]
    for window, before in ((FIRST, 0), (STEP, FIRST)):
        answer = guarded([a_guard(SECRET)], chunks[: window // 4], whole=False)
        assert answer.text() == "1234" * (window // 4)
        assert guarded([a_guard(SECRET)], chunks[: window // 4 - 1], whole=False).text() == "1234" * (before // 4)


def test_a_silence_lets_go_on_what_is_decided() -> None:
    """When nothing comes for a while, only what may begin a match waits; and what comes then is still found."""
    chunks: list[Any] = [delta(content="good sec"), None, None, delta(content="ret"), delta(finish="stop")]
    assert guarded([a_guard(SECRET)], chunks[:3], whole=False).text() == "good "
    answer = guarded([a_guard(SECRET)], chunks)
    assert (answer.text(), answer.stopped) == ("good ", "content_filter")


def test_what_is_found_by_what_is_in_front_is_found_when_that_has_gone() -> None:
    """Detectors see as far back as they reach, also what the client has already."""
    text = "a" * 50 + "no: " + "b" * 15 + "1234 " + "c" * 100
    chunks = [delta(content=one) for one in text]
    answer = guarded([a_guard(Behind(), action=Action.REDACT)], [*chunks, delta(finish="stop")])
    assert answer.text() == text.replace("1234", "[NO_1]")


def test_a_block_in_the_first_window_gives_nothing() -> None:
    """Of an answer that is blocked at its beginning a client sees the role, and that a content filter has ended it."""
    chunks = [
        delta(role="assistant", content=""),
        *(delta(content=one) for one in "a secret and more"),
        delta(finish="stop"),
    ]
    answer = guarded([a_guard(SECRET)], chunks)
    assert (answer.text(), answer.finish()) == ("", "content_filter")
    assert answer.chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_a_warning_changes_nothing_and_is_told_once() -> None:
    """What a guard warns of goes on; it is told once for the stream, with where each match is in the whole text."""
    judged = Judged([a_guard(SECRET, action=Action.WARN)])
    text = f"{TEXT} secret {TEXT} secret {TEXT}"
    answer = guarded([], [delta(content=text), delta(finish="stop")], judged=judged)
    assert answer.text() == text
    judged.ask.hold()
    judged.ask.leave()
    ((decision, pieces),) = judged.decisions
    (found,) = decision.found
    assert [text[one.start : one.end] for _, one in found.findings] == ["secret", "secret"]
    assert {pieces[number].path for number, _ in found.findings} == {"choices[0].content"}


def told(judged: Judged) -> list[tuple[str, int, int]]:
    """End the request; give what was told of its stream."""
    judged.ask.hold()
    judged.ask.leave()
    return [
        (found.guard.name, one.start, one.end)
        for decision, _ in judged.decisions
        for found in decision.found
        for _, one in found.findings
    ]


LATE = "a" * 1500 + " harm " + "b" * 2000
WINDOWS: list[tuple[str, Action, list[tuple[int, int]]]] = [
    ("harm " + "a" * 3000, Action.WARN, [(0, FAR_STEP)]),
    (LATE, Action.WARN, [(2 * OVERLAP, 2 * FAR_STEP)]),
    ("a" * (FAR_STEP - 50) + "harm " + "a" * 45, Action.WARN, [(0, FAR_STEP)]),
    (LATE, Action.REDACT, [(2 * OVERLAP, 2 * FAR_STEP)]),
]


@pytest.mark.parametrize(("text", "action", "places"), WINDOWS)
@pytest.mark.parametrize("size", [9, 5000])
def test_what_is_found_in_a_window_is_told_where_the_text_goes_on_in_parts(
    text: str, action: Action, places: list[tuple[int, int]], size: int
) -> None:
    """Of a text of several windows each finding is told once, also one that begins in what went on before, or ends in
    what is still held."""
    judged = Judged([a_guard(asking=Asking("harm"), action=action)])
    chunks = [*(delta(content=text[at : at + size]) for at in range(0, len(text), size)), delta(finish="stop")]
    answer = guarded([], chunks, judged=judged)
    assert (answer.text() == text) is (action is Action.WARN)
    assert told(judged) == [("g", start, end) for start, end in places]


def test_a_block_is_told_at_once() -> None:
    """The decision is recorded before the stream ends, with the guard and the place."""
    judged = Judged([a_guard(SECRET)])
    guarded([], [delta(content=f"{TEXT} secret"), delta(finish="stop")], judged=judged)
    ((decision, _),) = judged.decisions
    assert decision.blocks is not None
    assert decision.blocks.findings[0][1] == Finding("W0", 41, 47)


def test_a_guard_looks_at_its_own_texts_alone() -> None:
    """`appliesTo` counts: thoughts and arguments of which no guard wants to know go on as they come."""
    guard = a_guard(SECRET, sources=(Source.TEXT,))
    chunks = [
        delta(reasoning_content="a secret"),
        call('{"a":"secret"}', name="f"),
        delta(content="fine"),
        delta(finish="stop"),
    ]
    answer = guarded([guard], chunks)
    assert answer.text("reasoning_content") == "a secret"
    assert (answer.arguments(), answer.text(), answer.finish()) == ('{"a":"secret"}', "fine", "stop")


def test_thoughts_are_judged_under_all_their_names() -> None:
    """Whatever names an engine gives them, thoughts go on under these, and none is a way around the guard."""
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], [
        delta(reasoning="the sec", reasoning_content="the sec", reasoning_details=[{"text": "the sec"}]),
        delta(reasoning="ret", reasoning_content="hidden secret", thinking="ret", token_ids=[1]), delta(finish="stop"),
    ])  # fmt: skip
    assert answer.text("reasoning") == answer.text("reasoning_content") == "the [W0_1]"
    assert "secret" not in json.dumps(answer.chunks)
    assert "reasoning_details" not in json.dumps(answer.chunks)


def test_what_no_guard_reads_goes_no_further() -> None:
    """Token ids, annotations and other fields that tell the text once more are left out."""
    chunk = delta(content="a secret", annotations=[{"text": "secret"}])
    chunk["choices"][0] |= {"token_ids": [7], "matched_stop": "x"}
    chunk |= {"prompt_token_ids": [8], "usage": {"total_tokens": 3}}
    end = delta(finish="stop")
    end["choices"][0]["stop_reason"] = 7
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], [chunk, end])
    written = json.dumps(answer.chunks)
    assert not any(word in written for word in ("token_ids", "annotations", "secret"))
    assert answer.chunks[-1]["choices"][0]["stop_reason"] == 7


def test_usage_goes_on() -> None:
    """A chunk without choices is passed on, and counts of each chunk stand on what goes on."""
    usage = {"id": "c", "choices": [], "usage": {"total_tokens": 3}}
    answer = guarded([a_guard(SECRET)], [delta(content="a"), delta(finish="stop"), usage])
    assert answer.chunks[-1] == usage


def test_redacted_arguments_are_json_whatever_stood_there() -> None:
    """A number that is replaced in the arguments of a call becomes a string."""
    guard = a_guard(Words(("4155550123",)), action=Action.REDACT)
    source = '{"tel": 4155550123, "say": "call 4155550123 \\"now\\""}'
    chunks = [call(one, name="f" if number == 0 else None) for number, one in enumerate(source)]
    answer = guarded([guard], [*chunks, delta(finish="tool_calls")])
    assert json.loads(answer.arguments()) == {"tel": "[W0_1]", "say": 'call [W0_1] "now"'}


def test_arguments_go_on_when_their_json_is_whole() -> None:
    """A call's arguments do not wait for the end of the answer, and its name comes with them."""
    guard = a_guard(Words(("secret", "}x")))
    chunks = [call("", name="f"), call('{"a": {'), call('"b": "sec"}}')]
    answer = guarded([guard], chunks, whole=False)
    assert answer.arguments() == '{"a": {"b": "sec"}}'
    assert [piece["function"].get("name") for chunk in answer.chunks
            for piece in chunk["choices"][0]["delta"]["tool_calls"]] == ["f"]  # fmt: skip
    assert guarded([guard], chunks[:2], whole=False).chunks == []


def test_a_call_without_arguments_is_told() -> None:
    """A call of which nothing but its name comes is there at the end, also where no finish reason comes."""
    for chunks in ([call("", name="f"), delta(finish="tool_calls")], [call("", name="f")]):
        (piece,) = next(one for chunk in guarded([a_guard(SECRET)], chunks).chunks
                        for one in [chunk["choices"][0]["delta"].get("tool_calls")] if one)  # fmt: skip
        assert (piece["id"], piece["function"]) == ("call_0", {"name": "f", "arguments": ""})


@pytest.mark.parametrize("dialect", [None, "messages"])
def test_where_texts_are_told_in_parts_one_ends_where_another_begins(dialect: object) -> None:
    """A dialect in which texts follow each other gets all of one before the next; elsewhere none waits for another."""
    chunks = [delta(reasoning_content="I think, sec"), delta(content="So")]
    answer = guarded([a_guard(SECRET)], chunks, dialect=dialect, whole=False)
    assert answer.text("reasoning_content") == ("I think, sec" if dialect else "")
    assert guarded([a_guard(SECRET)], [*chunks, delta(reasoning_content="ret")], dialect=dialect).stopped is not None


def test_completions_are_judged_too() -> None:
    """The text of a text completion is one, with its log-probabilities."""

    def piece(text: str, finish: str | None = None) -> Any:
        logprobs = {"tokens": [text], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
        return {"object": "text_completion", "choices": [
            {"index": 0, "text": text, "logprobs": logprobs if text else None, "finish_reason": finish}]}  # fmt: skip

    answer = guarded(
        [a_guard(SECRET, action=Action.REDACT)],
        [piece("a "), piece("sec"), piece("ret"), piece(" b"), piece("", "stop")],
    )
    assert (answer.text("text"), answer.finish()) == ("a [W0_1] b", "stop")
    assert [one for chunk in answer.chunks for one in (chunk["choices"][0]["logprobs"] or {}).get("tokens", ())] == [
        "a ",
        " b",
    ]


def test_log_probabilities_that_do_not_fit_the_text_go_no_further() -> None:
    """Tokens of a thought that an engine tells among those of the text are text that no guard has let pass."""
    chunk = delta(content="fine " * 20)
    chunk["choices"][0]["logprobs"] = {"content": [{"token": "secret", "bytes": list(b"secret")}]}
    answer = guarded([a_guard(SECRET)], [chunk, delta(finish="stop")])
    assert "secret" not in json.dumps(answer.chunks)


@pytest.mark.parametrize("on_error", OnError)
@pytest.mark.parametrize("kind", ["near", "dear", "asking", "slow"])
def test_a_guard_that_fails_closes_or_not(on_error: OnError, kind: str) -> None:
    """A guard that could not decide ends the stream with an error that names it, unless the policy lets it be open."""
    guard = {
        "near": lambda: a_guard(Failing(), on_error=on_error),
        "dear": lambda: a_guard(Failing(Cost.DEAR), on_error=on_error),
        "asking": lambda: a_guard(asking=Asking("x", error=RuntimeError("down")), on_error=on_error),
        "slow": lambda: a_guard(asking=_Never(), on_error=on_error, seconds=0.01),
    }[kind]()
    judged = Judged([guard])
    answer = guarded(
        [],
        [delta(role="assistant", content=""), delta(content="held text " * 200), delta(finish="stop")],
        judged=judged,
    )
    if on_error is OnError.OPEN:
        assert (answer.text(), answer.error) == ("held text " * 200, None)
        return
    assert isinstance(answer.error, AnswerNotChecked)
    assert (answer.text(), "held" in answer.error.message, "`g`" in answer.error.message) == ("", False, True)
    assert judged.decisions[0][0].failed[0].guard is guard


class _Never:
    async def judge(self, case: Any) -> Any:
        await asyncio.Event().wait()
        return case


def test_who_is_asked_sees_windows_that_overlap_and_nothing_twice() -> None:
    """Guards that ask are shown windows at fixed places, however the text came, with what others have redacted."""
    text = "".join(f"{number:07} " for number in range(400)) + "secret"
    seen = []
    for size in (1, 7, 5000):
        asking = Asking("nothing")
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        chunks = [*(delta(content=piece) for piece in pieces), delta(finish="stop")]
        answer = guarded([a_guard(SECRET, action=Action.REDACT), a_guard(name="h", asking=asking)], chunks)
        assert answer.text() == text.replace("secret", "[W0_1]")
        seen.append(asking.seen)
    assert seen[0] == seen[1] == seen[2]
    whole = text.replace("secret", "[W0_1]")
    assert seen[0] == [whole[:FAR_STEP], *(
        whole[start * FAR_STEP - 2 * OVERLAP : (start + 1) * FAR_STEP] for start in range(1, 4))]  # fmt: skip


@pytest.mark.parametrize("action", [Action.BLOCK, Action.REDACT])
def test_what_is_judged_by_windows_does_not_go_out_before(action: Action) -> None:
    """Of a window that a guard finds harmful nothing goes out; what was judged before it has."""
    text = "a" * 1500 + "harm" + "b" * 2000
    chunks = [*(delta(content=text[at : at + 10]) for at in range(0, len(text), 10)), delta(finish="stop")]
    answer = guarded([a_guard(asking=Asking("harm"), action=action)], chunks)
    assert set(answer.text()[: FAR_STEP - OVERLAP]) == {"a"}
    assert "harm" not in answer.text()
    assert len(answer.text()) == FAR_STEP - OVERLAP if action is Action.BLOCK else answer.text().endswith("b")


def test_a_guard_of_the_whole_answer_holds_it_to_its_end() -> None:
    """Where a guard is about the whole answer nothing goes on before that is judged; then it is given, or withheld."""
    form = FormatGuard(type="Format", name="form", appliesTo=(Source.TEXT,), maxCharacters=3)
    chunks = [delta(role="assistant", content="fine"), call('{"a":1}', name="f"), delta(finish="tool_calls")]
    assert guarded([a_guard(SECRET, guard=form)], chunks, whole=False).chunks == []
    answer = guarded([a_guard(SECRET, guard=form)], chunks)
    assert (answer.text(), answer.arguments(), answer.finish()) == ("fine", '{"a":1}', "tool_calls")
    blocked = guarded(
        [a_guard(SECRET, guard=form)], [delta(content="a sec"), delta(content="ret"), delta(finish="stop")]
    )
    assert (blocked.text(), blocked.finish(), blocked.error) == ("", "content_filter", None)
    failed = guarded([a_guard(Failing(), guard=form)], chunks)
    assert (failed.chunks, type(failed.error)) == ([], AnswerNotChecked)


def test_a_long_answer_that_was_held_is_gone_over_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texts are taken, and put back, where they hold nobody up; those of a short one where they are."""
    beside: list[str] = []

    async def noted(_: object, work: Any) -> Any:
        beside.append(work.func.__name__)
        return work()

    monkeypatch.setattr(whole, "beside", noted)
    form = FormatGuard(type="Format", name="form", action=Action.REDACT, appliesTo=(Source.TEXT,), maxCharacters=3)
    for count in (1, 40):
        judged = Judged([a_guard(SECRET, guard=form, action=Action.REDACT)])
        judged.shared.deps.executor = None
        chunks = [*(delta(content="secret " + "x" * 10_000) for _ in range(count)), delta(finish="stop")]
        answer = guarded([], chunks, judged=judged)
        assert answer.text() == ("[W0_1] " + "x" * 10_000) * count
        assert beside == (["answer_pieces", "_with_changed"] if count > 1 else [])


def test_placeholders_are_undone_behind_the_guards() -> None:
    """What the client itself has said comes back, although a guard of the output redacts such things."""
    naming = Naming()
    name = naming.name("W0", "secret")
    judged = Judged([a_guard(SECRET, action=Action.REDACT)])
    judged.ask.names().add(name.strip("[]"))
    chunks = [delta(content=f"your {name[:3]}"), delta(content=f"{name[3:]} is a secret of mine"), delta(finish="stop")]
    answer = guarded([], chunks, judged=judged, placeholders=naming.placeholders())
    assert answer.text() == "your secret is a [W0_2] of mine"


def test_values_of_different_texts_have_different_names() -> None:
    """The same value has one name in all texts of a stream, and no two values have the same."""
    detector = build_regex_detector(
        RegexGuard(name="n", patterns=(RegexPattern(name="Number", pattern="[0-9]{4}"),), appliesTo=(Source.TEXT,))
    )
    numbers = a_guard(detector, action=Action.REDACT)
    chunks = [
        delta(reasoning_content=f"it is 1111 {TEXT}"), delta(content=f"not 2222 but 1111 {TEXT}"), delta(finish="stop"),
    ]  # fmt: skip
    answer = guarded([numbers], chunks)
    assert answer.text("reasoning_content") == f"it is [NUMBER_1] {TEXT}"
    assert answer.text() == f"not [NUMBER_2] but [NUMBER_1] {TEXT}"


def test_how_long_text_waits_is_measured() -> None:
    """Each time that text goes on it is told how long the oldest of it had waited."""
    judged = Judged([a_guard(SECRET)])
    clock = iter(range(100))
    judged.shared.deps.clock = lambda: float(next(clock))
    guarded([], [delta(content=TEXT[:20]), delta(content=TEXT), delta(finish="stop")], judged=judged)
    assert judged.waits[0] > 0


def test_many_texts_are_refused() -> None:
    """An answer of more texts than anybody has is not held."""
    answer = guarded([a_guard(SECRET)], [call("{", index=number, name="f") for number in range(2000)])
    assert cast(Any, answer.error).code == "answer_not_checked"


def test_a_text_in_one_piece_is_not_looked_at_mark_by_mark() -> None:
    """A large piece costs a few looks, also where something blocks at its end."""
    looks: list[int] = []

    @dataclass(frozen=True)
    class Counting(Words):
        def scan(self, text: str, source: Source) -> Scan:
            looks.append(len(text))
            return (
                Scan() if "secret" not in text else Scan([Finding("W", text.index("secret"), text.index("secret") + 6)])
            )

    answer: Answer = guarded(
        [a_guard(Counting(("secret",)))], [delta(content="x" * 100_000 + "secret" + "y" * 600), delta(finish="stop")]
    )
    assert answer.stopped == "content_filter"
    assert len(answer.text()) > 99_000
    assert (len(looks) < 10, sum(looks) < 300_000) == (True, True)


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_matches_without_a_gap_are_those_of_the_whole_text(size: int) -> None:
    """Where one match ends the next is looked for, however far back the first one was."""
    patterns = (RegexPattern(name="p", pattern="a{3}"),)
    detector = build_regex_detector(RegexGuard(name="r", appliesTo=(Source.TEXT,), patterns=patterns))
    chunks = [*(delta(content="a" * min(size, 689 - at)) for at in range(0, 689, size)), delta(finish="stop")]
    assert guarded([a_guard(detector, action=Action.REDACT)], chunks).text() == "[P_1]" * 229 + "aa"


@pytest.mark.parametrize("size", [1, 3, 7, 500])
def test_words_behind_escapes_are_replaced_in_arguments(size: int) -> None:
    """What a client reads in arguments is judged, however it is written and cut; what is replaced leaves JSON."""
    source = json.dumps({"a": "x" * 60 + " secret 😀 \\secret" + "y" * 300}).replace("sec", "s\\u0065c")
    pieces = [source[at : at + size] for at in range(0, len(source), size)]
    chunks = [call(piece, name="f" if n == 0 else None) for n, piece in enumerate(pieces)]
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], [*chunks, delta(finish="stop")])
    assert answer.arguments() == source.replace("s\\u0065cret", "[W0_1]")
    assert json.loads(answer.arguments())["a"].count("[W0_1]") == 2
    answer = guarded([a_guard(SECRET)], [*chunks, delta(finish="stop")])
    assert (answer.stopped, "u0065" in answer.arguments()) == ("content_filter", False)


@pytest.mark.parametrize("where", ["id", "name", "extra_content"])
@pytest.mark.parametrize("kind", ["near", "asks"])
def test_what_stands_beside_arguments_is_judged(where: str, kind: str) -> None:
    """A name, an id or a signature of a call goes on when guards let it: each is words of a model."""
    one = call("{}", name="f")
    told = one["choices"][0]["delta"]["tool_calls"][0]
    (told["function"] if where == "name" else told)[where] = {"a": ["a secret"]} if where[0] == "e" else "a_secret"
    guard = a_guard(SECRET) if kind == "near" else a_guard(asking=Asking("secret"))
    answer = guarded([guard], [one, delta(finish="stop")])
    assert answer.stopped == "content_filter"
    assert "secret" not in json.dumps(answer.chunks)


def test_what_stands_beside_arguments_is_redacted() -> None:
    """What is replaced in a name is so in a stream as in a whole answer; a signature that is changed is left out."""
    one = call("{}", name="get_secret")
    one["choices"][0]["delta"]["tool_calls"][0]["extra_content"] = {"a": "secret"}
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], [one, delta(finish="stop")])
    (told,) = answer.chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert told == {"index": 0, "id": "call_0", "type": "function",
                    "function": {"name": "get_[W0_1]", "arguments": "{}"}}  # fmt: skip


def test_why_an_answer_has_ended_is_judged() -> None:
    """What an engine says of an end in words of its own is judged as well."""
    end = delta(finish="stop")
    end["choices"][0]["native_finish_reason"] = "a secret"
    assert guarded([a_guard(SECRET)], [delta(content="fine"), end]).stopped == "content_filter"


def test_what_is_cut_by_another_text_is_blocked_where_it_cannot_be_replaced() -> None:
    """Where texts follow each other, the rest of a match whose beginning has gone on does not follow it."""
    chunks = [delta(content="my sec"), delta(reasoning_content="hm"), delta(content="ret is"), delta(finish="stop")]
    answer = guarded([a_guard(SECRET, action=Action.REDACT)], chunks, dialect=object())
    assert (answer.text(), answer.stopped) == ("my sec", "content_filter")


@pytest.mark.parametrize("front", ["}", '{"a":1}'])
def test_brackets_outside_of_a_document_end_nothing(front: str) -> None:
    """Arguments that are no JSON, or have something behind it, are held as other texts are."""
    chunks = [call(f"{front}sec]", name="f"), call("ret", name=None), delta(finish="stop")]
    answer = guarded([a_guard(Words(("sec]ret",)))], chunks)
    assert (answer.stopped, "sec" in answer.arguments()) == ("content_filter", False)


@dataclass(frozen=True)
class Warns:
    """Says itself what is to become of what it finds."""

    async def judge(self, case: Any) -> list[Scan]:
        """Warn of each text."""
        return [Scan((Finding("odd", 0, len(piece.text), action=Action.WARN),)) for piece in case.pieces]


def test_what_is_to_become_of_a_finding_holds_in_every_window() -> None:
    """Who is asked may say less than the policy does, of the first window of a text and of each that follows."""
    answer = guarded([a_guard(asking=Warns())], [delta(content="x" * (3 * FAR_STEP)), delta(finish="stop")])
    assert (answer.text(), answer.finish()) == ("x" * (3 * FAR_STEP), "stop")


def test_a_name_in_pieces_is_one_name() -> None:
    """It is judged as clients put it together, and goes on whole; one that is said again is said once."""
    guards = [a_guard(Words(("bomb",)))]
    chunks = [call("", name="bo"), delta(tool_calls=[{"index": 0, "function": {"name": "mb"}}]), call("{}")]
    assert guarded(guards, chunks).stopped == "content_filter"
    chunks[1] = delta(tool_calls=[{"index": 0, "function": {"name": "at"}}])
    names = [
        piece["function"].get("name")
        for chunk in guarded(guards, [*chunks, call("", name="boat"), delta(finish="tool_calls")]).chunks
        for piece in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert names[0] == "boat"
    again = guarded(guards, [call("", name="f"), call("{}", name="f"), delta(finish="tool_calls")])
    assert again.chunks[0]["choices"][0]["delta"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
