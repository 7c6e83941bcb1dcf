"""Which requests are sampled, and what is read of them: the parts without a network."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.guards import Action, GuardBody, PiiEntity, PiiGuard, RegexGuard, Source
from capstan_contract.limits import Mode
from capstan_contract.samples import Turn
from capstan_gateway.pipeline.guards.compiled import CompiledPolicy, compile_policy
from capstan_gateway.pipeline.sampling.chance import Pace, Share
from capstan_gateway.pipeline.sampling.redaction import redacted, redactors_of
from capstan_gateway.pipeline.sampling.texts import answer_of, streamed_answer

MAIL = "ada@lovelace.example.org"


def test_none_and_all_are_shares_too() -> None:
    """A rate of 0 takes nothing, one of 1 everything."""
    ids = [f"req_{number}".encode() for number in range(1000)]
    assert not any(Share(0.0).takes(one, 0.0) for one in ids)
    assert all(Share(1.0).takes(one, 0.0) for one in ids)


def test_a_larger_share_holds_the_smaller_one() -> None:
    """Who raises the rate keeps what was sampled already; the time does not matter."""
    ids = [f"req_{number}".encode() for number in range(5000)]
    small = {one for one in ids if Share(0.1).takes(one, 0.0)}
    large = {one for one in ids if Share(0.3).takes(one, 1e9)}
    assert small < large
    assert 350 < len(small) < 650


@given(
    per_hour=st.integers(1, 100_000),
    pauses=st.lists(st.floats(0, 10_000, allow_nan=False), max_size=200),
)
def test_a_pace_is_never_exceeded(per_hour: int, pauses: list[float]) -> None:
    """In whatever way requests come, no stretch of time has more samples than its part of the hour and one burst."""
    pace, now, taken = Pace(per_hour), 0.0, 0
    for pause in pauses:
        now += pause
        taken += pace.takes(b"", now)
    assert taken <= now * per_hour / 3600 + max(1.0, per_hour / 60) + 1e-6


def test_a_pace_is_kept_under_load() -> None:
    """An hour of requests gives the number that was asked for, spread over it."""
    pace = Pace(60)
    taken = [second for second in range(3600) if pace.takes(b"", float(second))]
    assert 59 <= len(taken) <= 61
    assert all(later - earlier >= 59 for earlier, later in pairwise(taken))


def policy(*guards: PiiGuard | RegexGuard, mode: Mode = Mode.ENFORCE) -> CompiledPolicy:
    """Compile a policy of the input."""
    return compile_policy(GuardBody(input=guards, mode=mode), None)  # type: ignore[arg-type]


def pii(**fields: object) -> PiiGuard:
    """Give a guard of personal data."""
    return PiiGuard.model_validate({"name": "pii", "appliesTo": (Source.USER,), **fields})


@pytest.mark.parametrize(
    "guard",
    [
        pii(),
        pii(action=Action.WARN),
        pii(action=Action.BLOCK),
        pii(entities=(PiiEntity(type="Email", action=Action.WARN),)),
        pii(appliesTo=(Source.SYSTEM,)),
    ],
)
def test_personal_data_is_replaced_whatever_the_guard_does_with_requests(guard: PiiGuard) -> None:
    """A value has one name in the whole conversation, and whose text it is in does not matter."""
    turns = (Turn(role="system", text=f"You are {MAIL}"), Turn(role="user", text=f"Ask {MAIL} or bob@example.org"))
    for mode in Mode:
        prompt, answer = redacted(turns, f"I am {MAIL}", redactors_of([policy(guard, mode=mode)]))
        assert [turn.text for turn in prompt] == ["You are [EMAIL_1]", "Ask [EMAIL_1] or [EMAIL_2]"]
        assert answer == "I am [EMAIL_1]"
        assert [turn.role for turn in prompt] == ["system", "user"]


def test_other_guards_replace_where_they_redact() -> None:
    """What one only blocks or warns of is no secret to who judges answers."""

    def guard(action: Action) -> RegexGuard:
        patterns = [{"name": "ticket", "pattern": "T-[0-9]+"}]
        return RegexGuard.model_validate(
            {"name": "r", "appliesTo": (Source.USER,), "action": action, "patterns": patterns}
        )

    turns = (Turn(role="user", text="See T-123"),)
    replaced, _ = redacted(turns, "", redactors_of([policy(guard(Action.REDACT))]))
    assert "T-123" not in replaced[0].text
    left, _ = redacted(turns, "", redactors_of([policy(guard(Action.WARN))]))
    assert left == turns


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices":[{"message":{"content":"one"}},{"message":{"content":"two"}}]}', "one"),
        (b'{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}', "ab"),
        (b'{"choices":[{"message":{"content":null,"refusal":"No."}}]}', "No."),
        (
            b'{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}',
            "[calls f with {}]",
        ),
        (b'{"choices":[{"text":"once"}]}', "once"),
        (b'{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"so"}]}', "so"),
        (b'{"content":[{"type":"tool_use","name":"f","input":{"a":1}}]}', '[calls f with {"a":1}]'),
        (b'{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"x"}]}]}', "x"),
        (b'{"choices":[]}', ""),
        (b"[]", ""),
        (b'{"choices":[3],"x":1}', ""),
        (b'{"content":[3],"output":"x"}', ""),
    ],
)
def test_the_answer_is_what_is_said_in_any_dialect(body: bytes, said: str) -> None:
    """Thoughts are no answer; a call of a tool is one; what makes no sense says nothing."""
    assert answer_of(body) == said


def test_streams_add_up_to_their_answers() -> None:
    """Of chunks, and of the events of dialects that went through as they were."""
    chunks = b"".join(
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % piece
        for piece in (b"He", b"llo")
    )
    assert streamed_answer(chunks + b"data: [DONE]\n\n", native=False) == "Hello"
    events = b"".join(
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
        b'"text":"%b"}}\n\n' % piece
        for piece in (b"He", b"llo")
    )
    assert streamed_answer(events, native=True) == "Hello"
