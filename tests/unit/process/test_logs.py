"""How a log line looks, whatever is in it."""

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_process.logs import MAX_TEXT, MAX_TRACEBACK, JsonFormatter, TextFormatter, bounded

NASTY = "a\nlevel=error forged\r\x1b[2J\u2028\u202e"


def record(message: str = "applied object", **fields: object) -> logging.LogRecord:
    """Make a record as `extra` does."""
    made = logging.makeLogRecord({"msg": "%s", "args": (message,), "levelname": "INFO", "name": "room"})
    vars(made).update(fields)
    return made


def failed(error: Exception) -> logging.LogRecord:
    """Make the record of an error that was caught."""
    try:
        raise error
    except type(error):
        return record(exc_info=sys.exc_info())


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    """Constant message, variable fields, a time that people and collectors can read, and nothing of logging or kopf."""
    line = json.loads(JsonFormatter().format(record(model="ns/m", k8s_ref={"a": 1}, created=1.5)))
    assert line == {
        "time": "1970-01-01T00:00:01.500000Z", "level": "info", "logger": "room", "message": "applied object",
        "model": "ns/m",
    }  # fmt: skip


def test_fields_that_json_does_not_know_do_not_lose_the_line() -> None:
    """Paths, sets, numbers of more than 64 bits and halves of characters are written somehow."""
    for value in (frozenset({1}), 2**70, "\ud800", {3: "x"}, object()):
        line = json.loads(JsonFormatter().format(record(value=value)))
        assert line["message"] == "applied object"
        assert "value" in line


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_what_is_logged_cannot_begin_another_line(formatter: logging.Formatter) -> None:
    """Line ends and escape sequences of a message or field are shown as what they are."""
    line = formatter.format(record(NASTY, told=NASTY))
    assert len(line.splitlines()) == 1 or isinstance(formatter, JsonFormatter)
    assert not {"\n", "\r", "\x1b"} & set(line)


def test_each_line_of_a_traceback_is_marked_as_one() -> None:
    """In text no line below the first looks like a line of the log."""
    first, *rest = TextFormatter().format(failed(ValueError(NASTY))).splitlines()
    assert first.endswith("room: applied object")
    assert rest
    assert all(line.startswith("  | ") for line in rest)


@given(st.text(max_size=50), st.integers(1, 50))
def test_a_text_is_bounded(text: str, limit: int) -> None:
    """However long a text is, so much of it is kept, and how much is missing is said."""
    shown = bounded(text, limit)
    assert shown.startswith(text[:limit])
    assert len(shown) < limit + 40
    assert (shown == text) == (len(text) <= limit)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_line_is_bounded(formatter: logging.Formatter) -> None:
    """Message, fields and traceback have each their bound."""
    failure = failed(ValueError("x" * 10 * MAX_TRACEBACK))
    vars(failure).update(told="y" * 10 * MAX_TEXT, msg="z" * 10 * MAX_TEXT, args=())
    assert len(formatter.format(failure)) < 2 * MAX_TEXT + MAX_TRACEBACK + 1000


@pytest.mark.parametrize(("level", "kopf"), [("debug", "WARNING"), ("error", "ERROR")])
def test_one_set_up_for_all(level: str, kopf: str) -> None:
    """Everything goes to standard error in one form; what talks much is heard from WARNING on."""
    program = (
        "import logging; from capstan_process.logs import configure_logging\n"
        f"configure_logging(level='{level}', form='json')\n"
        "logging.getLogger('x').error('told', extra={'a': 1})\n"
        "print(logging.getLevelName(logging.getLogger('kopf').level))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kopf
    assert json.loads(done.stderr)["a"] == 1
