"""Markup in which every text is escaped unless it is markup already, and in which no text can pretend to be another.

A page shows what models and users wrote. So a `str` is escaped wherever it stands, and only this module makes `Html`.
"""

import html
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

_VOID: Final = frozenset({"meta", "input", "br"})
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
"""What a browser does not show, or what makes it show other text in another order."""


class Html(str):
    """Markup, ready to be put into a page."""

    __slots__ = ()


Child: TypeAlias = "str | Html | Iterable[Child] | None"
"""What an element may hold: a text, markup, nothing, or several of these."""


def visible(text: str) -> str:
    """Give a text in which each sign can be seen: those that cannot be shown, or that reorder others, as their number.

    Line ends and tabs stay.
    """
    return _CONTROL.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", text.replace("\r\n", "\n"))


def escape(text: str) -> Html:
    """Give a text as markup that shows it."""
    return Html(html.escape(visible(text), quote=True))


def join(*children: Child) -> Html:
    """Give the children one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child))
        else:
            parts.extend(join(item) for item in child)
    return Html("".join(parts))


def element(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """Give an element. In attributes `class_` is `class` and `aria_label` is `aria-label`; True is one without a value.

    None and False leave an attribute out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
