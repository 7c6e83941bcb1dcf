"""Equal parts of many objects are one object: of 5,000 LLMModels most parts, and most conditions, say the same.

Only for what nobody changes: manifests, and frozen pydantic models. Two parts are equal here when their types, the
fields that were set and every value are, whatever `==` says of 1, 1.0 and True. Bounded: long texts and what holds them
are not shared, and when a table is full it is emptied, which costs nothing but that later parts are other objects.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

MOST: Final = 4096
LONGEST: Final = 256
"""Characters of a text that is shared: longer ones are seldom alike, and a table keeps what it holds alive."""
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


class Sharing:
    """Gives an equal value that was seen before in the place of one. Not for two threads."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._texts: dict[str, str] = {}
        self._objects: dict[tuple[object, ...], dict[str, Any]] = {}
        self._parts: dict[tuple[object, ...], BaseModel] = {}
        self._fields_set: dict[frozenset[str], set[str]] = {}

    def json(self, value: Any) -> Any:
        """Give JSON whose strings, and whose objects without lists or objects in them, are shared."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if not isinstance(value, dict):
            return value
        if any(type(item) not in _SCALARS for item in value.values()):
            return {self._text(key): self.json(item) for key, item in value.items()}
        return self._leaf(value)

    def within(self, root: M) -> M:
        """Give a frozen model back that is one of its kind, with its parts shared: it is changed in place."""
        fields = root.__dict__
        for name, value in fields.items():
            fields[name] = self._value(value)
        names = self._names(frozenset(root.__pydantic_fields_set__))
        object.__setattr__(root, "__pydantic_fields_set__", names)
        return root

    def part(self, part: M) -> M:
        """Give the frozen model that stands for all that are equal to this one, its parts shared as well."""
        self.within(part)
        if _has_long(part.__dict__.values()):
            return part
        key = (
            type(part),
            frozenset(part.__pydantic_fields_set__),
            *((name, _key(value)) for name, value in part.__dict__.items()),
        )
        known = self._parts.get(key)
        if isinstance(known, type(part)):
            return known
        self._keep(self._parts, key, part)
        return part

    def _value(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return self.part(value)
        if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
            return tuple(self._value(item) for item in value)
        if type(value) is dict and all(type(item) in _SCALARS for item in value.values()):
            return self._leaf(value)
        return self._text(value) if type(value) is str else value

    def _leaf(self, value: dict[str, Any]) -> dict[str, Any]:
        if _has_long(value) or _has_long(value.values()):
            return {self._text(name): item for name, item in value.items()}
        key = tuple(part for name, item in value.items() for part in (name, *_scalar(item)))
        known = self._objects.get(key)
        if known is None:
            known = {self._text(name): self._text(item) if type(item) is str else item for name, item in value.items()}
            self._keep(self._objects, key, known)
        return known

    def _text(self, text: str) -> str:
        if len(text) > LONGEST:
            return text
        known = self._texts.get(text)
        if known is None:
            known = text
            self._keep(self._texts, text, text)
        return known

    def _names(self, names: frozenset[str]) -> set[str]:
        known = self._fields_set.get(names)
        if known is None:
            known = set(names)
            self._keep(self._fields_set, names, known)
        return known

    def _keep(self, table: dict[Any, Any], key: object, value: object) -> None:
        if len(table) >= self._most:
            table.clear()
        table[key] = value


def _key(value: object) -> object:
    """Give what is the same for equal values only. A model, a map or an enum's member is equal to itself alone:
    what has it is in a table and keeps it alive, so that its id is nobody else's."""
    if isinstance(value, tuple):
        return (tuple, *(_key(item) for item in value))
    return _scalar(value) if type(value) in _SCALARS else id(value)


def _has_long(values: Iterable[object]) -> bool:
    """Whether a long text is among them, or anywhere within."""
    return any(_is_long(value) for value in values)


def _is_long(value: object) -> bool:
    if type(value) is str:
        return len(value) > LONGEST
    if isinstance(value, BaseModel):
        return _has_long(value.__dict__.values())
    if isinstance(value, dict):
        return _has_long(value) or _has_long(value.values())
    return isinstance(value, list | tuple) and _has_long(value)


def _scalar(value: object) -> tuple[type, object]:
    return type(value), repr(value) if isinstance(value, float) else value
