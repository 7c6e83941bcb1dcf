"""Messages and pieces of them in the form that clients of chat completions read, whatever their engine writes. Pure.

The text of an answer is a string, not a list of parts; what the model thought stands under `reasoning_content`, the
name that nearly all clients know, beside the engine's own name for it. All else stays as it came.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

Document = dict[str, Any]
READ: Final = "reasoning_content"
"""Under this name clients look for reasoning: DeepSeek's, SGLang's, vLLM's until it changed."""
OWN: Final = "reasoning"
"""vLLM's, OpenRouter's and Groq's."""
REASONING: Final = (OWN, READ, "reasoning_text", "thinking", "reasoning_details")
"""All its names: also Copilot's, Ollama's, OpenRouter's for parts. Of several the first one counts."""
TYPED: Final = frozenset((OWN, READ))
"""Those that hold a text, or an object with one; the others may hold anything."""
_OTHERS: Final = tuple(name for name in REASONING if name != READ)
_NAMES: Final = frozenset(_OTHERS)
_PARTS: Final = frozenset(("text", "output_text", "thinking", "reasoning"))
"""Types of the parts that are text; a list with any other is left as it is."""
_KEY: Final = b'"reasoning":'
_READ_KEY: Final = b'"reasoning_content":'
_TEXT: Final = re.compile(rb'"reasoning":[ ]?("[^"\\]*+(?:\\.[^"\\]*+)*+")')


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message or a delta, without what it refused."""
    return _joined(message.get("content"), "text")


def refusal_of(message: Mapping[str, Any]) -> str:
    """What a message or a delta says in place of an answer."""
    return _joined(message.get("refusal"), "text")


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning of a message or a delta, under the first of its names, or as parts of the content."""
    found = next((message[name] for name in REASONING if message.get(name)), None)
    if isinstance(found, dict):
        found = found.get("text") or found.get("summary") or found.get("content")
    if isinstance(found, list):
        found = [part.get("text") or part.get("summary") if isinstance(part, dict) else part for part in found]
    if not found and isinstance(message.get("content"), list):
        found = [part.get("thinking") for part in message["content"] if isinstance(part, dict)]
    return _joined(found, "text")


def _joined(value: Any, field: str) -> str:
    """A text that may come in parts, and in parts of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        value = value.get(field)
        return value if isinstance(value, str) else ""
    return "".join(_joined(part, field) for part in value) if isinstance(value, list) else ""


def is_odd(message: Mapping[str, Any]) -> bool:
    """Whether a message or a delta is perhaps not in that form. Fields that engines do not use hold null or ""."""
    if type(message.get("content")) is list:
        return True
    return (
        not _NAMES.isdisjoint(message) and not message.get(READ) and any(message.get(name) for name in _OTHERS)
    ) or type(message.get(READ)) is dict


def is_named_otherwise(message: Mapping[str, Any]) -> bool:
    """Whether all that is odd of it is that reasoning is called `reasoning`: that is mended in its bytes."""
    return type(message.get(OWN)) is str and type(message.get("content")) is not list


def plain(message: Document) -> Document:
    """Give a message or a delta in that form; the very same object when it is in it."""
    if not is_odd(message):
        return message
    made = dict(message)
    if reasoning := reasoning_of(message):
        made[READ] = reasoning
    content = message.get("content")
    if type(content) is list and all(_is_text(part) for part in content):
        made["content"] = text_of(message)
    return made


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind = part.get("type")
    return (isinstance(kind, str) and kind in _PARTS) or ("type" not in part and "text" in part)


def with_read_name(run: bytes) -> bytes | None:
    """Write frames in which reasoning has only vLLM's name with the other one as well.

    None when that takes more than their bytes. Inside JSON strings quotes are escaped, so that a name in quotes with a
    colon behind it is only ever a key.
    """
    if _KEY not in run:
        return run
    if _READ_KEY in run:
        return None
    before, *behind = run.split(_KEY + b'"')
    if not behind or b'\\"' in run:
        # Some write a space behind the colon; and where quotes are escaped, a text does not end at the first one.
        return _TEXT.sub(_both, run)
    out = [before]
    for part in behind:
        out.append(b'%b"%b",%b"%b' % (_KEY, part[: part.index(b'"')], _READ_KEY, part))
    return b"".join(out)


def _both(found: re.Match[bytes]) -> bytes:
    return b"%b%b,%b%b" % (_KEY, found[1], _READ_KEY, found[1])
