"""Fields of the engine that only some types of engines have an option for."""

from typing import Any

from capstan_operator.api.schema import Rule


def only_for(field: str, engines: tuple[str, ...]) -> Rule:
    """A field of the engine, or of a part of it (`kvCache.dtype`), that the other types of engines do not know."""
    *parents, _ = field.split(".")
    unset = [f"!has(self.{path})" for path in (*parents, field)]
    return Rule(
        cel=f"{' || '.join(unset)} || self.type in {listed(engines)}",
        message=f"must not be set unless `type` is {one_of(engines)}; what another engine has belongs into `args`",
        holds=lambda self: value_of(self, field) is None or self.type in engines,
        field_path=f".{field}",
    )


def one_of(words: tuple[str, ...]) -> str:
    """Say in words which there are: `vLLM, SGLang or TGI`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def listed(words: tuple[str, ...]) -> str:
    """CEL: a list of texts."""
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


def value_of(part: Any, path: str) -> Any:
    """Give the value of a field, or of one in a part of it; None where it, or the part, is not set."""
    for name in path.split("."):
        if part is None:
            return None
        part = getattr(part, name)
    return part
