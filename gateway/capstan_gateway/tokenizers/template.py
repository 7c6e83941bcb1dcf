"""Chat templates: what makes one text of a conversation, as engines do with the template of their model.

The environment is that of Hugging Face's `apply_chat_template` (transformers, utils/chat_template_utils.py), which vLLM
and SGLang use: Jinja in an immutable sandbox, blocks trimmed, loop controls, `raise_exception`, `strftime_now`,
a `tojson` that writes no escapes, and the block `generation`, which changes no text.

A template comes from whoever runs the installation, what it is given from anybody: so how much it may look up, and how
much it may write, is bounded.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT: Final = 4 * 1024 * 1024
"""Characters of a prompt."""
MAX_STEPS: Final = 100_000
"""What a template may look up, call and write for one conversation; each takes some microseconds. A template of a
usual model takes 20 to 50 for each message."""
MAX_POWER: Final = 64


class TemplateRefuses(Exception):
    """There is no prompt of this conversation: the template says so, cannot be used, or takes too long."""


class _Generation(Extension):
    """`{% generation %}` marks what the model has said, for training: the text is what stands in it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that counts what it does."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self._counts = threading.local()
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _now

    def begin(self) -> None:
        """Begin to count, for one text of this thread."""
        self._counts.steps = 0

    def step(self) -> None:
        """Count one more; raises TemplateRefuses when that is too much."""
        steps = self._counts.steps = getattr(self._counts, "steps", 0) + 1
        if steps > MAX_STEPS:
            raise TemplateRefuses("the chat template takes too long")

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.step()
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        self.step()
        return super().call(context, obj, *arguments, **named)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.step()
        if operator == "**" and not (_is_small(left) and _is_small(right)):
            raise TemplateRefuses("the chat template reckons with numbers that are too large")
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > MAX_TEXT:
                    raise TemplateRefuses("the chat template writes too much")
        return super().call_binop(context, operator, left, right)


def _is_small(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX_POWER


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class ChatTemplate:
    """One template, compiled once. From any thread."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """`special_tokens` are what it may name: `bos_token` and its like. Raises TemplateRefuses for what is no
        template."""
        self._environment = _Environment()
        self._special = dict(special_tokens)
        try:
            self._template = self._environment.from_string(source)
        except Exception as error:
            # NB: it becomes Python, which refuses some of what Jinja takes: a `break` outside a loop, deep nesting.
            raise TemplateRefuses(f"it is no template: {type(error).__name__}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        more: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        """Give the text of a conversation; `more` are variables of the client's. Raises TemplateRefuses."""
        pieces: list[str] = []
        length = 0
        self._environment.begin()
        given = {
            **self._special, **more, "messages": messages, "tools": tools, "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }  # fmt: skip
        try:
            for piece in self._template.generate(given):
                self._environment.step()
                length += len(piece)
                if length > MAX_TEXT:
                    raise TemplateRefuses("the chat template writes too much")
                pieces.append(piece)
        except TemplateRefuses:
            raise
        except Exception as error:
            # NB: whatever a template does with values of any type. What it says may hold parts of the prompt.
            raise TemplateRefuses(f"the chat template takes no such conversation: {type(error).__name__}") from error
        return "".join(pieces)
