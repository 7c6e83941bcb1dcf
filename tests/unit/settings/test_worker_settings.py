"""Flags, variables and files of the worker."""

import pytest

from capstan_process.settings import SettingsError
from capstan_worker.__main__ import main, parse_arguments, read
from capstan_worker.errors import UsageError
from capstan_worker.prefixes import Prefix, parse_prefixes
from capstan_worker.settings import WorkerSettings
from capstan_worker.simulator.settings import Dials, SimulatorSettings, checked, show_dials, turn_dials


def settings_of(arguments: list[str]) -> WorkerSettings:
    """Read what every worker has from this command line."""
    return read(WorkerSettings, parse_arguments(["vllm", *arguments]))


def test_a_variable_stands_in_for_a_flag(monkeypatch: pytest.MonkeyPatch):
    """Every flag can be given as a variable, and the flag wins."""
    monkeypatch.setenv("CAPSTAN_WORKER_WORKER_PORT", "9001")
    monkeypatch.setenv("CAPSTAN_WORKER_HOST", "0.0.0.0")
    settings = settings_of(["--host", "::1"])
    assert (settings.port, settings.host) == (9001, "::1")


def test_a_variable_with_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch):
    """A variable that cannot be used is refused by its name."""
    monkeypatch.setenv("CAPSTAN_WORKER_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match="CAPSTAN_WORKER_LOG_FORMAT must be one of json, text, not 'xml'"):
        settings_of([])


def test_a_simulator_has_the_blocks_that_its_window_needs():
    """Without --kv-blocks there are 8192, or more where a larger window would not fit; a flag that is one is taken."""

    def blocks(*arguments: str) -> int:
        return checked(read(SimulatorSettings, parse_arguments(["simulator", "--model", "m", *arguments]))).kv_blocks

    assert blocks() == 8192
    assert blocks("--context-window", "262144") == 16384
    assert blocks("--kv-blocks", "9000") == 9000


def test_lists_of_the_simulator_are_given_flag_by_flag_or_between_commas(monkeypatch: pytest.MonkeyPatch):
    """A repeated flag is one item each, a variable holds all of them."""
    monkeypatch.setenv("CAPSTAN_WORKER_FAULT", "500;first=3, reset")
    given = parse_arguments(["simulator", "--model", "m", "--alias", "a", "--alias", "b", "--prefix-cache", "off"])
    settings = read(SimulatorSettings, given)
    assert settings.aliases == ("a", "b")
    assert [fault.text for fault in settings.dials.faults] == ["500;first=3", "reset"]
    assert not settings.dials.prefix_cache


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulator", "--model", "m", "--fault", "explode"], "fault 'explode' is not known"),
        (["simulator"], "--model (or CAPSTAN_WORKER_MODEL) is missing"),
        (["simulator", "--model", "m", "--prefix-cache", "maybe"], "--prefix-cache must be on or off, not 'maybe'"),
        (["sidecar", "--engine", "none", "--engine-url", "http://x", "--model", "m"], "--engine must be one of vLLM"),
        (["simulator", "--model", "m", "--kv-blocks", "10"], "needs 2048 blocks"),
        (["simulator", "--model", "m", "--concurrency", "0"], "concurrency must be at least 1"),
        (["simulator", "--model", "m", "--prefixes", "/nowhere.json"], "cannot be read"),
        (["simulator", "--model", "m", "--", "x"], "takes nothing after `--`"),
        (["vllm", "--", "m", "--headless"], "vLLM's --headless is not possible in the worker's process"),
        (["vllm", "--", "m", "--port=1"], "give --port before the `--`"),
        (["sidecar", "--engine", "TGI", "--engine-url", "localhost", "--model", "m"], "must begin with http://"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    """A command line that cannot be used ends with exit code 2 and says why, without a traceback."""
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message


def test_dials_go_over_http_and_back():
    """What the settings route shows can be sent back as it is."""
    dials = turn_dials(Dials(), {"ttftMs": 5, "faults": ["500;first=3"], "accepting": False, "concurrency": 2})
    assert turn_dials(Dials(), show_dials(dials)) == dials


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ttft": 1}, "known are ttftMs"),
        ({"ttftMs": "soon"}, "must be a number"),
        ({"ttftMs": True}, "must be a number"),
        ({"concurrency": 1.5}, "must be a whole number"),
        ({"accepting": 1}, "must be true or false"),
        ({"faults": "500"}, "must be a list"),
        ({"jitter": 2}, "from 0 to 1"),
    ],
)
def test_a_wrong_dial_is_refused(changes: dict[str, object], says: str):
    """A dial that cannot be turned so says what is allowed."""
    with pytest.raises(UsageError, match=says):
        turn_dials(Dials(), changes)


def test_prefixes_are_read():
    """The file is a list of names and system prompts."""
    assert parse_prefixes('[{"name": "a", "system": "Be brief."}]') == (Prefix("a", "Be brief."),)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is not JSON"), ("{}", "must be a list"), ('[{"name": "secret prompt"}]', "entry 0 must be an object")],
)
def test_a_wrong_prefixes_file_says_where_and_not_what(text: str, says: str):
    """The message names the entry and never repeats a prompt."""
    with pytest.raises(UsageError, match=says) as caught:
        parse_prefixes(text)
    assert "secret" not in str(caught.value)
