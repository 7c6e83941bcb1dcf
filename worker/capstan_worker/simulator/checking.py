"""Values checked as pydantic checks them for vLLM, with its words: a wrong one is a fault that says where and what.

A checker takes a value and its place and gives the value as vLLM reads it (`"5"` is a number for it, as 5.0 is a whole
one), or gives faults. It never raises: all faults of a request are told together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_worker.simulator.errors import ApiError

Place = tuple[str | int, ...]
MAX_FAULTS: Final = 20
"""Faults that are told; a request may have thousands."""
_LONGEST_INPUT: Final = 200
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "on": True, "t": True, "y": True} | {
    "false": False, "0": False, "no": False, "off": False, "f": False, "n": False,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    kind: str
    """Pydantic's name for it, such as `string_type`."""
    at: Place
    message: str
    given: Any
    param: str | None = None
    """The field that vLLM names, where it is not the place."""

    def text(self) -> str:
        """Give it as vLLM writes it: a dictionary of Python's."""
        given = repr(self.given)
        if len(given) > _LONGEST_INPUT:
            given = given[:_LONGEST_INPUT] + "..."
        return f"{{'type': {self.kind!r}, 'loc': {self.at!r}, 'msg': {self.message!r}, 'input': {given}}}"


class Invalid(Exception):
    """A value that cannot be: with its faults."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults


Checker = Callable[[Any, Place], Any]


def refusal(faults: tuple[Fault, ...]) -> ApiError:
    """Give the error with which vLLM answers such faults."""
    told = faults[:MAX_FAULTS]
    label = "error" if len(faults) == 1 else "errors"
    message = f"{len(faults)} validation {label}:\n" + "\n".join("  " + fault.text() for fault in told)
    # Names of alternatives ("list[str]") are no fields.
    named = [part for part in told[0].at if str(part) not in ("str", "int") and "[" not in str(part)]
    param = next((fault.param for fault in told if fault.param), ".".join(map(str, named)))
    return ApiError(400, message, type="Bad Request", param=param)


def invalid(kind: str, at: Place, message: str, given: Any) -> Invalid:
    """Make the exception for one fault."""
    return Invalid(Fault(kind, at, message, given))


def text(value: Any, at: Place) -> str:
    """A text."""
    if not isinstance(value, str):
        raise invalid("string_type", at, "Input should be a valid string", value)
    return value


def boolean(value: Any, at: Place) -> bool:
    """True or false, in one of pydantic's spellings."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if isinstance(value, str | int | float):
        message = "Input should be a valid boolean, unable to interpret input"
        raise invalid("bool_parsing", at, message, value)
    raise invalid("bool_type", at, "Input should be a valid boolean", value)


def whole(value: Any, at: Place) -> int:
    """A whole number: also 1.0, "1" and true, as pydantic takes them."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        message = "Input should be a valid integer, got a number with a fractional part"
        raise invalid("int_from_float", at, message, value)
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.lstrip("+-").isascii() and stripped.lstrip("+-").isdigit() and len(stripped) < 30:
            try:
                return int(stripped)
            except ValueError:
                pass
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", at, message, value)
    raise invalid("int_type", at, "Input should be a valid integer", value)


def number(value: Any, at: Place) -> float:
    """A number."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            message = "Input should be a valid number, unable to parse string as a number"
            raise invalid("float_parsing", at, message, value) from None
    raise invalid("float_type", at, "Input should be a valid number", value)


def within(low: int, high: int) -> Checker:
    """A whole number between two bounds."""

    def check(value: Any, at: Place) -> int:
        read = whole(value, at)
        if read < low:
            raise invalid("greater_than_equal", at, f"Input should be greater than or equal to {low}", value)
        if read > high:
            raise invalid("less_than_equal", at, f"Input should be less than or equal to {high}", value)
        return read

    return check


def one_of(*allowed: str) -> Checker:
    """One of these texts."""
    names = [repr(item) for item in allowed]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

    def check(value: Any, at: Place) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise invalid("literal_error", at, f"Input should be {listed}", value)
        return value

    return check


def optional(check: Checker) -> Checker:
    """A value or null."""
    return lambda value, at: None if value is None else check(value, at)


def list_of(check: Checker, *, most: int | None = None, name: str = "List") -> Checker:
    """A list of such values."""

    def read(value: Any, at: Place) -> list[Any]:
        if not isinstance(value, list):
            raise invalid("list_type", at, "Input should be a valid list", value)
        if most is not None and len(value) > most:
            message = f"{name} should have at most {most} items after validation, not {len(value)}"
            raise invalid("too_long", at, message, value)
        return _gather(((place, item) for place, item in enumerate(value)), check, at)

    return read


def dictionary(value: Any, at: Place) -> dict[str, Any]:
    """An object of whatever content."""
    if not isinstance(value, dict):
        raise invalid("dict_type", at, "Input should be a valid dictionary", value)
    return value


def dictionary_of(check: Checker) -> Checker:
    """An object whose values are such."""

    def read(value: Any, at: Place) -> dict[str, Any]:
        given = dictionary(value, at)
        return dict(zip(given, _gather(given.items(), check, at), strict=True))

    return read


def either(**alternatives: Checker) -> Checker:
    """One of several forms; the faults of all are told. The names are pydantic's, but for `list_` (`list[...]`)."""

    def read(value: Any, at: Place) -> Any:
        faults: list[Fault] = []
        for name, check in alternatives.items():
            try:
                return check(value, (*at, name.replace("list_", "list[") + ("]" if "list_" in name else "")))
            except Invalid as error:
                faults.extend(error.faults)
        raise Invalid(*faults)

    return read


def fields(known: Mapping[str, Checker], *, required: tuple[str, ...] = ()) -> Checker:
    """An object with these fields; what else it has is left as it is."""

    def read(value: Any, at: Place) -> dict[str, Any]:
        if not isinstance(value, dict):
            message = "Input should be a valid dictionary or object to extract fields from"
            raise invalid("model_attributes_type", at, message, value)
        faults = [Fault("missing", (*at, name), "Field required", value) for name in required if name not in value]
        checked = dict(value)
        for name, given in value.items():
            check = known.get(name)
            if check is None:
                continue
            try:
                checked[name] = check(given, (*at, name))
            except Invalid as error:
                faults.extend(error.faults)
        if faults:
            raise Invalid(*faults)
        return checked

    return read


def _gather(pairs: Any, check: Checker, at: Place) -> list[Any]:
    read: list[Any] = []
    faults: list[Fault] = []
    for key, item in pairs:
        try:
            read.append(check(item, (*at, key)))
        except Invalid as error:
            faults.extend(error.faults)
            if len(faults) >= MAX_FAULTS:
                break
    if faults:
        raise Invalid(*faults)
    return read
