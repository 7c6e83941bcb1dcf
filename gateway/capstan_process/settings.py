"""One reader of settings for operator, gateway and worker.

A process describes its settings as a frozen dataclass, in which each field says what it is and what it may be:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Settings:
        port: int = setting(8080, "port of the API", least=0, most=65535)
        store_password: str | None = setting(None, "password of the store", secret=True)

A value comes from the command line, else from the environment, else it is the default. With the prefix CAPSTAN_GATEWAY_
the field `store_password` is `--store-password` and CAPSTAN_GATEWAY_STORE_PASSWORD. Texts, numbers, switches, paths,
enumerations and lists of texts are read by their types; anything else by a function of its own. A field that is a
dataclass of this kind is read in the same way, a field without `setting` keeps its default.
"""

import argparse
import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

MAX_SHOWN: Final = 100
"""Characters of a wrong value that an error repeats."""
_KEY: Final = "capstan.setting"
_USER: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#]*@")
"""Up to the last @ of what a URL has before its path: a password may hold one."""


class SettingsError(Exception):
    """A setting that cannot be used; the message names the flag or variable and says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of a field beside its name, type and default."""

    text: str
    """What it is, as `--help` says it."""
    read: Callable[[str], Any] | None = None
    """Makes the value of a text; raises ValueError that says what is allowed ("must be ...")."""
    choices: tuple[str, ...] = ()
    """What a text may be, in any case of letters."""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    """As `least`, without that number itself."""
    flag: str | None = None
    """Where it is not the field's name."""
    variable: str | None = None
    """Where it is not the prefix and the flag."""
    secret: bool = False
    """Never shown: not in errors, not in `describe`."""
    repeated: bool = False
    """A list whose flag is given once for each item; all others take items between commas."""


def setting(default: T, text: str, **options: Any) -> T:
    """A field with this default. `text` says what it is; the options are those of `Setting`."""
    return dataclasses.field(default=default, metadata={_KEY: Setting(text=text, **options)})


def required(text: str, **options: Any) -> Any:
    """A field without a default."""
    return dataclasses.field(metadata={_KEY: Setting(text=text, **options)})


def add_flags(parser: argparse.ArgumentParser, *classes: type) -> None:
    """Declare the flag of every setting of these dataclasses; one that several have, once."""
    added: set[str] = set()
    for known in (known for cls in classes for known in _settings_of(cls)):
        if known.flag in added:
            continue
        added.add(known.flag)
        name, text = f"--{known.flag}", known.help()
        if known.is_switch:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            action = "append" if known.about.repeated else "store"
            parser.add_argument(name, action=action, default=None, metavar=known.metavar, help=text)


def read_settings(
    cls: type[T], *, prefix: str, environ: Mapping[str, str], flags: argparse.Namespace | None = None
) -> T:
    """Read one dataclass of settings. `flags` is what a parser with `add_flags` made of the command line.

    Raises SettingsError for a value that is not allowed, and for a required one that is missing.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, cls)):
        kind = _type_of(cls, field.name)
        if dataclasses.is_dataclass(kind):
            values[field.name] = read_settings(cast(type, kind), prefix=prefix, environ=environ, flags=flags)
    for known in _own_settings(cls):
        given, source = getattr(flags, known.flag.replace("-", "_"), None), f"--{known.flag}"
        if given is None:
            source = known.about.variable or prefix + known.flag.replace("-", "_").upper()
            given = environ.get(source)
        if given is not None:
            values[known.name] = known.read(given, source)
        elif known.default is dataclasses.MISSING:
            raise SettingsError(f"--{known.flag} (or {source}) is missing: {known.about.text}")
    return cls(**values)


def read_command_line(
    cls: type[T], *, prog: str, description: str, prefix: str, arguments: Sequence[str], environ: Mapping[str, str]
) -> T:
    """Read a process' whole command line. SystemExit for an unknown flag and for `--help`, SettingsError otherwise."""
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    add_flags(parser, cls)
    return read_settings(cls, prefix=prefix, environ=environ, flags=parser.parse_args(arguments))


def describe(settings: Any) -> dict[str, Any]:
    """What the settings are, for the log at the start; secrets are only said to be there."""
    shown: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value, about = getattr(settings, field.name), field.metadata.get(_KEY)
        if dataclasses.is_dataclass(value):
            shown[field.name] = describe(value)
        elif about is not None and about.secret:
            shown[field.name] = "(set)" if value else None
        elif isinstance(value, tuple):
            shown[field.name] = tuple(without_password(item) if isinstance(item, str) else item for item in value)
        else:
            plain = isinstance(value, bool | int | float | None)
            shown[field.name] = value if plain else without_password(str(value))
    return shown


def without_password(text: str) -> str:
    """Take the name and the password out of a URL; any other text stays."""
    return _USER.sub(r"\1(set)@", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """One setting of a dataclass."""

    name: str
    kind: Any
    """Its type, without `| None`."""
    optional: bool
    default: Any
    about: Setting

    @property
    def flag(self) -> str:
        return self.about.flag or self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        return self.kind is bool and self.about.read is None

    @property
    def metavar(self) -> str:
        return "|".join(self.about.choices) or self.flag.rsplit("-", 1)[-1].upper()

    def help(self) -> str:
        """What `--help` says. argparse takes a percent sign for the begin of a name."""
        shown = self.default
        if shown in (None, "", (), False) or shown is dataclasses.MISSING or self.about.secret:
            return self.about.text.replace("%", "%%")
        shown = ",".join(shown) if isinstance(shown, tuple) else shown
        return f"{self.about.text} (default {shown})".replace("%", "%%")

    def read(self, given: Any, source: str) -> Any:
        """Make the value of what was given. Raises SettingsError."""
        if isinstance(given, bool):
            return given
        if self.optional and given == "":
            return None
        try:
            return self._value(given)
        except ValueError as error:
            shown = "" if self.about.secret else f", not '{without_password(str(given))[:MAX_SHOWN]}'"
            raise SettingsError(f"{source} {error}{shown}") from None

    def _value(self, given: Any) -> Any:
        about = self.about
        if typing.get_origin(self.kind) is tuple and (about.read is None or about.repeated):
            items = given if isinstance(given, list) else _items(given)
            return tuple(map(about.read or str, items))
        if about.read is not None:
            return about.read(given)
        if self.kind in (int, float):
            return self._number(given)
        if self.kind is bool:
            return _switch(given)
        if isinstance(self.kind, type) and issubclass(self.kind, StrEnum):
            return self.kind(_choice(given, tuple(self.kind)))
        return _choice(given, about.choices) if about.choices else self.kind(given)

    def _number(self, text: str) -> float:
        about = self.about
        try:
            number: float = self.kind(text)
        except ValueError:
            raise ValueError(f"must be a {'whole ' if self.kind is int else ''}number") from None
        low_enough = about.most is None or number <= about.most
        high_enough = (about.least is None or number >= about.least) and (about.above is None or number > about.above)
        if not (low_enough and high_enough and math.isfinite(number)):
            raise ValueError(f"must be {self._range()}")
        return number

    def _range(self) -> str:
        """In words, which numbers are allowed."""
        about = self.about
        if about.least is not None and about.most is not None:
            return f"from {about.least} to {about.most}"
        low = f"at least {about.least}" if about.least is not None else None
        low = f"greater than {about.above}" if about.above is not None else low
        high = f"at most {about.most}" if about.most is not None else None
        return " and ".join(bound for bound in (low, high) if bound) or "a finite number"


def _own_settings(cls: type) -> Iterator[_Known]:
    for field in dataclasses.fields(cast(Any, cls)):
        about = field.metadata.get(_KEY)
        if about is not None:
            kind = _type_of(cls, field.name)
            options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
            kinds = [option for option in options if option is not types.NoneType]
            yield _Known(
                name=field.name, kind=kinds[0], optional=len(kinds) < len(options), default=field.default, about=about
            )


def _settings_of(cls: type) -> Iterator[_Known]:
    """Those of a dataclass, and of the dataclasses in it."""
    for field in dataclasses.fields(cast(Any, cls)):
        kind = _type_of(cls, field.name)
        if dataclasses.is_dataclass(kind):
            yield from _settings_of(cast(type, kind))
    yield from _own_settings(cls)


def _type_of(cls: type, name: str) -> Any:
    return typing.get_type_hints(cls)[name]


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _choice(text: str, choices: Sequence[str]) -> str:
    for choice in choices:
        if choice.lower() == text.lower():
            return choice
    raise ValueError(f"must be one of {', '.join(choices)}")
