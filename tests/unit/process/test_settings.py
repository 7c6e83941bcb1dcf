"""One reader of settings: where a value comes from, and what is said of one that cannot be used."""

import argparse
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_process.settings import (
    SettingsError,
    add_flags,
    describe,
    read_command_line,
    read_settings,
    required,
    setting,
)


class Colour(StrEnum):
    """Something to choose from."""

    RED = "Red"
    BLUE = "Blue"


def read_pair(text: str) -> tuple[str, str]:
    """Read what has no type of its own."""
    left, found, right = text.partition("=")
    if not found:
        raise ValueError("must be a pair such as a=b")
    return left, right


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A part of settings."""

    depth: int = setting(1, "how deep", least=0, most=9)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One of each kind."""

    name: str = required("who")
    ratio: float = setting(0.5, "how much of 100% there is", above=0, most=1)
    on: bool = setting(False, "whether")
    always: bool = setting(True, "whether not")
    where: Path | None = setting(None, "a file")
    colour: Colour = setting(Colour.RED, "which")
    level: str = setting("low", "how loud", choices=("low", "high"))
    names: tuple[str, ...] = setting((), "some")
    pairs: tuple[tuple[str, str], ...] = setting((), "more", flag="pair", repeated=True, read=read_pair)
    password: str | None = setting(None, "of the store", secret=True, variable="OTHER_PASSWORD")
    port: int = setting(80, "where", least=0, most=65535)
    inner: Inner = field(default_factory=Inner)
    fixed: int = 7


def read(*arguments: str, **environ: str) -> Example:
    """Read a command line and an environment."""
    return read_command_line(
        Example, prog="example", description="", prefix="EX_", arguments=arguments, environ=environ
    )


def test_flag_beats_variable_beats_default() -> None:
    """Each value is looked up alone, also in a part of the settings."""
    found = read("--name", "a", "--port", "1", EX_NAME="b", EX_RATIO="0.25", EX_DEPTH="3")
    assert (found.name, found.port, found.ratio, found.inner.depth, found.level) == ("a", 1, 0.25, 3, "low")


def test_each_kind_is_read() -> None:
    """Switches, paths, choices in any case of letters, lists, and what a function reads."""
    found = read(
        "--name", "n", "--on", "--no-always", "--where", "/x", "--colour", "bLUE", "--level", "HIGH",
        "--names", "a, b,", "--pair", "a=1,2", "--pair", "b=",
        OTHER_PASSWORD="secret",
    )  # fmt: skip
    assert (found.on, found.always, found.where) == (True, False, Path("/x"))
    assert (found.colour, found.level, found.names) == (Colour.BLUE, "high", ("a", "b"))
    assert (found.pairs, found.password) == ((("a", "1,2"), ("b", "")), "secret")


def test_an_empty_variable_is_none_where_none_is_allowed() -> None:
    """A template that has nothing to say may still name the variable."""
    assert read("--name", "", EX_WHERE="", OTHER_PASSWORD="") == Example(name="")


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        ([], {}, r"--name \(or EX_NAME\) is missing: who"),
        (["--name", "n", "--port", "x"], {}, "--port must be a whole number, not 'x'"),
        (["--name", "n", "--port", "65536"], {}, "--port must be from 0 to 65535, not '65536'"),
        (["--name", "n"], {"EX_RATIO": "0"}, "EX_RATIO must be greater than 0 and at most 1, not '0'"),
        (["--name", "n"], {"EX_RATIO": "nan"}, "EX_RATIO must be greater than 0 and at most 1, not 'nan'"),
        (["--name", "n"], {"EX_ON": "yes"}, "EX_ON must be true or false, not 'yes'"),
        (["--name", "n"], {"EX_COLOUR": "green"}, "EX_COLOUR must be one of Red, Blue, not 'green'"),
        (["--name", "n"], {"EX_LEVEL": ""}, "EX_LEVEL must be one of low, high, not ''"),
        (["--name", "n"], {"EX_DEPTH": "10"}, "EX_DEPTH must be from 0 to 9, not '10'"),
        (["--name", "n"], {"EX_PAIR": "a=b,c"}, "EX_PAIR must be a pair such as a=b, not 'a=b,c'"),
    ],
)
def test_a_wrong_value_is_named(arguments: list[str], environ: dict[str, str], message: str) -> None:
    """The message says where the value stands, what is allowed, and what it is."""
    with pytest.raises(SettingsError, match=f"^{message}$"):
        read(*arguments, **environ)


@given(st.text(max_size=200), st.sampled_from(["EX_PORT", "EX_RATIO", "EX_ON", "EX_COLOUR", "EX_DEPTH", "EX_PAIR"]))
def test_whatever_a_variable_holds_is_read_or_refused_by_its_name(text: str, variable: str) -> None:
    """No text ends in another error than the one that is told to people, and it is not repeated without end."""
    told = ""
    try:
        read("--name", "n", **{variable: text})
    except SettingsError as error:
        told = str(error)
    assert not told or told.startswith(f"{variable} must be ")
    assert len(told) < 200


def test_an_unknown_flag_and_half_a_flag_are_refused() -> None:
    """A typo is an error, not a default and not another flag."""
    for flag in ("--prot", "--por"):
        with pytest.raises(SystemExit):
            read("--name", "n", flag, "80")


def test_a_secret_is_never_shown() -> None:
    """Neither in what is logged at the start nor in an error or a help text."""

    @dataclass(frozen=True)
    class Secrets:
        pin: int = setting(1234, "a number", secret=True)
        plain: Path = setting(Path("/x"), "a path")
        inner: Inner = field(default_factory=Inner)

    with pytest.raises(SettingsError, match=r"^EX_PIN must be a whole number$"):
        read_settings(Secrets, prefix="EX_", environ={"EX_PIN": "hunter2"})
    assert describe(Secrets()) == {"pin": "(set)", "plain": "/x", "inner": {"depth": 1}}
    assert describe(read("--name", "n"))["password"] is None
    parser = argparse.ArgumentParser()
    add_flags(parser, Secrets)
    assert "1234" not in parser.format_help()


def test_help_says_what_each_setting_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Text, allowed values and default; a flag that two dataclasses have is there once."""

    @dataclass(frozen=True)
    class Same:
        port: int = setting(1, "another")

    parser = argparse.ArgumentParser()
    add_flags(parser, Example, Same)
    shown = " ".join(parser.format_help().split())
    assert "--ratio RATIO how much of 100% there is (default 0.5)" in shown
    assert "--level low|high how loud (default low)" in shown
    assert "--on, --no-on whether" in shown
    assert shown.count("--port PORT where") == 1


def test_an_option_of_a_setting_is_one_that_there_is() -> None:
    """A typo in the description of a setting is found at import."""
    unknown: dict[str, Any] = {"lest": 1}
    with pytest.raises(TypeError, match="lest"):
        setting(1, "x", **unknown)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@10.0.0.1:6379/0",
        "https://user:{}@api.example.com/v1",
        "rediss+sentinel://u:{}@h1,h2/x",
        "http://{}@h",
    ],
)
@pytest.mark.parametrize("password", ["hunter2", "p@ss:word", "%40x", "ünïcode"])
def test_a_password_in_a_url_is_in_no_log(url: str, password: str) -> None:
    """Whatever field it is in, marked or not, alone or in a list; what else the URL says stays."""
    given = url.format(password)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Urls:
        one: str = setting("", "a URL")
        several: tuple[str, ...] = setting((), "URLs")
        marked: str | None = setting(None, "a URL", secret=True)

    shown = str(describe(Urls(one=given, several=(given, "plain"), marked=given)))
    assert password not in shown
    assert given.split("://")[0] in shown
    assert given.rpartition("@")[2] in shown
    assert "plain" in shown


def test_a_wrong_url_is_repeated_without_its_password() -> None:
    """An error is printed, and printed is logged."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Choice:
        url: str = setting("a", "one of two", choices=("a", "b"))

    with pytest.raises(SettingsError) as raised:
        read_settings(Choice, prefix="X_", environ={"X_URL": "redis://u:hunter2@h"})
    assert "hunter2" not in str(raised.value)
    assert "redis://(set)@h" in str(raised.value)
