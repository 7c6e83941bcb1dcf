"""Flags, variables and files of the worker."""

import argparse

import pytest

from capstan_worker.__main__ import main
from capstan_worker.errors import UsageError
from capstan_worker.prefixes import Prefix, parse_prefixes
from capstan_worker.settings import (
    WorkerSettings,
    add_worker_arguments,
    read_worker_settings,
    set_defaults_from_environment,
)
from capstan_worker.simulator.settings import Dials, show_dials, turn_dials


def read(arguments: list[str], environ: dict[str, str]) -> WorkerSettings:
    """Read these flags and variables."""
    parser = argparse.ArgumentParser()
    add_worker_arguments(parser)
    set_defaults_from_environment(parser, environ)
    return read_worker_settings(parser.parse_args(arguments))


def test_a_variable_stands_in_for_a_flag():
    """Every flag can be given as a variable, and the flag wins."""
    environ = {"CAPSTAN_WORKER_WORKER_PORT": "9001", "CAPSTAN_WORKER_HOST": "0.0.0.0"}
    settings = read(["--host", "::1"], environ)
    assert (settings.port, settings.host) == (9001, "::1")


def test_a_variable_with_a_wrong_value_is_named():
    """A variable that cannot be used is refused by its name."""
    with pytest.raises(UsageError, match="CAPSTAN_WORKER_LOG_FORMAT must be one of text, json"):
        read([], {"CAPSTAN_WORKER_LOG_FORMAT": "xml"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulator", "--model", "m", "--fault", "explode"], "fault 'explode' is not known"),
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
