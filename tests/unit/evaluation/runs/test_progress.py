"""How far a run is."""

import io

from hypothesis import given
from hypothesis import strategies as st

from capstan_evaluation.runs.progress import LINE_SECONDS, Progress, Tally, as_bar, as_duration, as_line


class Terminal(io.StringIO):
    """Something with a cursor."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_rate_and_time_left_are_of_this_process() -> None:
    """What was there before it began was not made at its rate."""
    assert as_line(Tally(60, 100, resumed=40, seconds=10)) == "60/100, 2.0/s, 20 s left"
    assert as_line(Tally(60, 100, resumed=60, errors=2)) == "60/100, 2 errors, 0.0/s"
    assert as_line(Tally(100, 100, seconds=50)) == "100/100, 2.0/s"


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 200), st.floats(0, 1e6))
def test_a_bar_has_room(done: int, more: int, width: int, seconds: float) -> None:
    """Whatever the width of the terminal, the bar does not pass it."""
    assert len(as_bar(Tally(done, done + more, seconds=seconds), width)) < max(1, width)


def test_durations_are_said_as_people_do() -> None:
    """Seconds, then minutes, then hours."""
    assert [as_duration(one) for one in (0.2, 59, 200, 7500)] == ["1 s", "59 s", "3 min 20 s", "2 h 5 min"]


def test_a_log_has_a_line_now_and_then() -> None:
    """What is no terminal gets whole lines, seldom, and the end."""
    clock = [0.0]
    out = io.StringIO()
    progress = Progress(out, 100, 0, now=lambda: clock[0], width=lambda: 80)
    for _ in range(50):
        clock[0] += LINE_SECONDS / 10
        progress.result(failed=False)
    progress.close()
    assert out.getvalue().count("\n") == 6
    assert "\r" not in out.getvalue()


def test_a_terminal_has_one_line() -> None:
    """A bar is written over itself, and ends with a line of its own."""
    clock = [0.0]
    out = Terminal()
    progress = Progress(out, 4, 0, now=lambda: clock[0], width=lambda: 80)
    for _ in range(4):
        clock[0] += 1.0
        progress.result(failed=True)
    progress.close()
    assert out.getvalue().count("\n") == 1
    assert "4/4, 4 errors" in out.getvalue().split("\r")[-1]


def test_who_has_gone_stops_no_run() -> None:
    """A closed terminal is no reason to lose a run."""
    out = io.StringIO()
    progress = Progress(out, 1, 0, now=lambda: 1e9, width=lambda: 80)
    out.close = lambda: None  # type: ignore[method-assign]
    io.StringIO.close(out)
    progress.close()
