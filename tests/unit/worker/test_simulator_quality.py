"""The settable quality of the simulator: what it knows, how it errs, what it refuses, and how slow it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from capstan_process.settings import SettingsError, read_settings
from capstan_worker.errors import UsageError
from capstan_worker.simulator import answerbook
from capstan_worker.simulator.answerbook import NO_ANSWERS, read_answer, read_answers
from capstan_worker.simulator.generate import Generator
from capstan_worker.simulator.questions import is_harmful, known_answer, wrong_answer
from capstan_worker.simulator.requests import Generation, parse_chat, parse_completion
from capstan_worker.simulator.settings import Dials, SimulatorSettings, checked
from capstan_worker.simulator.shapes import Shapes

SETTINGS = SimulatorSettings(model="sim")


def ask(text: str, dials: Dials, settings: SimulatorSettings = SETTINGS, **more: Any) -> Generation:
    """Give the chat request that says this."""
    return parse_chat({"messages": [{"role": "user", "content": text}], **more}, settings, dials)


def said(request: Generation) -> dict[str, Any]:
    """Give the message of the first choice."""
    shapes = Shapes(request, number="1", created=1, cached_tokens=0)
    message: dict[str, Any] = shapes.whole(request.answers())["choices"][0]["message"]
    return message


def test_two_replicas_of_one_seed_say_the_same():
    """Two processes with the same settings give the same answers, the wrong ones too: A/A finds no difference."""
    dials = Dials(accuracy=0.6, bare_answers=True, refusal_rate=0.1)
    one, two = (
        [said(ask(f"What is {n} + 9?", dials, SimulatorSettings(model="sim", seed=4))) for n in range(60)]
        for _ in range(2)
    )
    other = [said(ask(f"What is {n} + 9?", dials, SimulatorSettings(model="sim", seed=5))) for n in range(60)]
    assert one == two != other


def test_a_bare_answer_is_all_that_is_said():
    """With bare answers a scorer that wants exactly the answer finds it; what has no known answer is as ever."""
    assert said(ask("What is 17 + 25?", Dials(bare_answers=True)))["content"] == "42"
    assert said(ask("Say hello", Dials(bare_answers=True))) == said(ask("Say hello", Dials()))


def test_completions_know_answers_too():
    """Each prompt of a completion is a question of its own, for each of its choices."""
    body = {"prompt": ["What is 1 + 1?", "Once upon", "What is 2 + 2?"], "n": 2}
    answers = parse_completion(body, SETTINGS, Dials(bare_answers=True)).answers()
    assert [answer.text for answer in answers[:2] + answers[4:]] == ["2", "2", "4", "4"]
    assert answers[2].text.startswith("This is a simulated answer")


@pytest.mark.parametrize(
    ("right", "pattern"),
    [
        ("42", r"\d+"),
        ("She makes 9 * 2 = 18.\n#### 18", r"She makes 9 \* 2 = 18.\n#### \d+"),
        ("$1,234", r"\$\d,\d{3}"),
        ("3.5", r"3\.\d+"),
        ("b", "[acd]"),
        ("C", "[ABD]"),
        ("Yes", "No"),
        ("false", "true"),
        ("Paris", "Rome|Oslo"),
    ],
)
def test_a_wrong_answer_looks_like_a_right_one(right: str, pattern: str):
    """A wrong answer is of the same kind as the right one, is not it, and does not hold it."""
    book = NO_ANSWERS.with_more([("a", "Paris"), ("b", "Rome"), ("c", "Oslo"), ("d", "Near Paris")])
    for drawn in range(50):
        wrong = wrong_answer(right, drawn, book)
        assert re.fullmatch(pattern, wrong)
        assert wrong != right
    assert right.isdigit() or "Paris" not in wrong_answer("Paris", 3)


def test_the_book_is_found_by_the_whole_text_or_a_line():
    """A prompt of the book is known with any white space, and as one line of a longer message."""
    book = NO_ANSWERS.with_more([("The capital  of\nFrance?", "Paris"), ("2 bolts?", "3")])
    settings = SimulatorSettings(model="sim", answers=book)
    dials = Dials(bare_answers=True)
    for text in ("The capital of France?", " The capital of\n\nFrance?", "Answer briefly.\nThe capital of France?\n"):
        assert said(ask(text, dials, settings))["content"] == "Paris"
    assert known_answer("The capital of Spain?", accuracy=1, salt="", book=book) is None


def test_a_file_of_answers_is_read(tmp_path: Path):
    """A file has `prompt` or `question`, `expected` or `answer`; further answers come from the command line."""
    path = tmp_path / "answers.jsonl"
    rows = [{"prompt": "One?", "expected": 1}, {"question": "Two?", "answer": "#### 2", "more": 1}]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    environ = {"S_MODEL": "sim", "S_ANSWERS": str(path)}
    settings = checked(read_settings(SimulatorSettings, prefix="S_", environ=environ))
    assert (settings.answers.find("One?"), settings.answers.find("Two?")) == ("1", "#### 2")
    more = checked(SimulatorSettings(model="sim", answers=settings.answers, own_answers=(("One?", "uno"),)))
    assert more.answers.find("One?") == "uno"
    assert "uno" not in f"{more.answers} {more.answers!r}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "line 1 is none"),
        ('{"prompt": "a", "expected": "b"}\nnot JSON', "line 2 is none"),
        ('{"prompt": "", "expected": "b"}', "line 1 has not"),
        ('{"prompt": "a"}', "line 1 has not"),
        ('{"prompt": "a", "expected": ["b"]}', "line 1 has not"),
        ('{"prompt": "a", "expected": ""}', "line 1 has not"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path, content: str, says: str):
    """What is wrong with a file is said with its line, and nothing of what it holds."""
    path = tmp_path / "answers.jsonl"
    path.write_text(content)
    with pytest.raises(SettingsError, match=f"S_ANSWERS must .*{says}"):
        read_settings(SimulatorSettings, prefix="S_", environ={"S_MODEL": "sim", "S_ANSWERS": str(path)})


def test_there_are_only_so_many_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A book, and a file, have a bound; a missing file and an answer without a prompt are refused."""
    monkeypatch.setattr(answerbook, "MOST_ANSWERS", 2)
    monkeypatch.setattr(answerbook, "_LARGEST_FILE", 10)
    with pytest.raises(UsageError, match="at most 2 answers"):
        checked(SimulatorSettings(model="sim", own_answers=(("a", "1"), ("b", "2"), ("c", "3"))))
    (tmp_path / "large").write_bytes(b"x" * 11)
    for path in ("large", "missing"):
        with pytest.raises(ValueError, match="must be a file"):
            read_answers(str(tmp_path / path))
    assert read_answer("What is a => b? => c") == ("What is a => b?", "c")
    for text in ("no arrow", "=> answer", "prompt =>"):
        with pytest.raises(ValueError, match="must be PROMPT => ANSWER"):
            read_answer(text)


def test_harmful_requests_are_refused_at_a_rate():
    """--harmful-refusal-rate refuses that share of the harmful requests, always the same ones, and no others."""
    dials = Dials(harmful_refusal_rate=0.8)
    harmful = [said(ask(f"How do I build a bomb, part {n}?", dials)).get("refusal") is not None for n in range(300)]
    assert 200 < sum(harmful) < 275
    assert harmful[:40] == [
        said(ask(f"How do I build a bomb, part {n}?", dials)).get("refusal") is not None for n in range(40)
    ]
    assert not any(said(ask(f"What is {n} + 1?", Dials(harmful_refusal_rate=1))).get("refusal") for n in range(20))
    assert said(ask("<<harmful>> Hello", Dials(harmful_refusal_rate=1)))["refusal"]


@pytest.mark.parametrize(
    ("text", "harmful"),
    [
        ("How can I launder money?", True),
        ("Write ransomware for me", True),
        ("<<harmful>>", True),
        ("What is the capital of France?", False),
        ("How do I kindle a fire in a stove?", False),
        ("A recipe for methane-free rice", False),
    ],
)
def test_what_is_harmful(text: str, *, harmful: bool):
    """Whole words of crimes and weapons are harmful, and what says that it is."""
    assert is_harmful(text) is harmful


def test_a_refusal_may_stand_in_the_words_of_the_answer():
    """With --refusal-form text a refusal is content, as open models say it."""
    settings = SimulatorSettings(model="sim", refusal_form="text")
    told = said(ask("Hello", Dials(refusal_rate=1), settings))
    assert told["content"].startswith("I'm sorry, but I can't help with that")
    assert told.get("refusal") is None


def test_all_times_are_stretched():
    """--latency-factor stretches the first token, the prefill and the tokens after it alike."""

    def times(factor: float) -> tuple[float, float]:
        dials = Dials(ttft_ms=100, tpot_ms=10, prefill_tokens_per_second=1000, latency_factor=factor)
        pace = Generator(None, None, chunk_tokens=1)._pace(ask("Hello", dials), dials, None, 0.0, 0)  # type: ignore[arg-type]
        return pace.first, pace.step

    assert times(2.5) == pytest.approx(tuple(2.5 * time for time in times(1)))
