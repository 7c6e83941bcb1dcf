"""Guards: which type takes which fields, and what each needs."""

from collections.abc import Sequence
from typing import Any, Final

from capstan_contract.guards import NAMED_KINDS
from capstan_operator.api.rules.cel import absent
from capstan_operator.api.schema import Rule

ATTACKS: Final = ("PromptInjection", "Jailbreak")
ABOUT_ANSWERS: Final = ("Format", "Grounding", "Confidence")
"""What these find is the whole answer: there is nothing in it to replace."""
WHOLE_TEXT: Final = ("Grounding", "Confidence")
"""They look at what the model says, and at nothing else."""
NAMED: Final = tuple(sorted(str(kind) for kind in NAMED_KINDS))
"""Personal data without a form of its own."""
NAMES: Final = {
    "PromptInjection": "prompt-injection",
    "Jailbreak": "jailbreak",
    "PII": "pii",
    "Topics": "topics",
    "Moderation": "moderation",
    "Regex": "regex",
    "Keywords": "keywords",
    "Format": "format",
    "Grounding": "grounding",
    "Confidence": "confidence",
    "Webhook": "webhook",
}
"""What a guard is called that has no name, by its type."""


def name_of(guard: Any) -> str:
    """Give the name of a guard: its type says it where the guard does not."""
    return guard.name or NAMES[guard.type]


def _listed(words: Sequence[str], *, last: str = "or") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _is_one(types: Sequence[str]) -> str:
    return f"self.type in [{', '.join(map(repr, types))}]"


def _of(field: str, *types: str, is_list: bool = False) -> Rule:
    """A field that only some types have."""
    unset = f"!has(self.{field})" + (f" || size(self.{field}) == 0" if is_list else "")
    return Rule(
        cel=f"{unset} || {_is_one(types)}",
        message=f"must not be set unless `type` is {_listed(types)}",
        holds=lambda guard: getattr(guard, field) in (None, ()) or guard.type in types,
        field_path=f".{field}",
    )


def _needs(field: str, type_: str, *, is_list: bool = False) -> Rule:
    """A field without which a type has nothing to do."""
    given = f"has(self.{field})" + (f" && size(self.{field}) > 0" if is_list else "")
    return Rule(
        cel=f"self.type != '{type_}' || ({given})",
        message=f"is required when `type` is {type_}" + (", with at least one item" if is_list else ""),
        holds=lambda guard: guard.type != type_ or getattr(guard, field) not in (None, ()),
        field_path=f".{field}",
    )


TOPIC = (
    Rule(
        cel="(has(self.phrases) && size(self.phrases) > 0) || (has(self.examples) && size(self.examples) > 0)",
        message="must have at least one of `phrases` and `examples`",
        holds=lambda topic: bool(topic.phrases or topic.examples),
    ),
)

_BOTH = (
    _of("entities", "PII", is_list=True),
    _of("allowList", "PII", is_list=True),
    _of("regions", "PII", is_list=True),
    _of("engine", "PII"),
    Rule(
        cel="!has(self.entities) || (has(self.engine) && self.engine == 'Presidio') ||"
        f" !self.entities.exists(one, one.type in [{', '.join(map(repr, NAMED))}])",
        message=f"must not name {_listed(NAMED)} unless `engine` is Presidio",
        holds=lambda guard: guard.engine == "Presidio" or not any(one.type in NAMED for one in guard.entities),
        field_path=".entities",
    ),
    _of("deny", "Topics", is_list=True),
    _of("allow", "Topics", is_list=True),
    _of("similarity", "Topics"),
    _of("embedding", "Topics"),
    Rule(
        cel="self.type != 'Topics' || (has(self.deny) && size(self.deny) > 0) || (has(self.allow) &&"
        " size(self.allow) > 0)",
        message="must have at least one of `deny` and `allow` when `type` is Topics",
        holds=lambda guard: guard.type != "Topics" or bool(guard.deny or guard.allow),
    ),
    _of("endpoint", "Moderation"),
    _of("format", "Moderation"),
    _of("categories", "Moderation", is_list=True),
    Rule(
        cel="self.type != 'Moderation' || has(self.modelRef) != has(self.endpoint)",
        message="must have exactly one of `modelRef` and `endpoint` when `type` is Moderation",
        holds=lambda guard: guard.type != "Moderation" or (guard.modelRef is None) != (guard.endpoint is None),
    ),
    Rule(
        cel=f"{absent('format')} || {absent('endpoint')}",
        message="must not be set together with `endpoint`, which is asked as OpenAI's is",
        holds=lambda guard: guard.format is None or guard.endpoint is None,
        field_path=".format",
    ),
    _of("patterns", "Regex", is_list=True),
    _needs("patterns", "Regex", is_list=True),
    _of("keywords", "Keywords", is_list=True),
    _needs("keywords", "Keywords", is_list=True),
    _of("caseSensitive", "Keywords"),
    _of("wholeWords", "Keywords"),
    _of("url", "Webhook"),
    _needs("url", "Webhook"),
    _of("secretRef", "Webhook"),
    _of("verdict", "Webhook"),
    Rule(
        cel="!has(self.verdict) || self.verdict != 'Signed' || has(self.secretRef)",
        message="must not be Signed without a `secretRef`, whose key signs",
        holds=lambda guard: guard.verdict != "Signed" or guard.secretRef is not None,
        field_path=".verdict",
    ),
)

INPUT = (
    *_BOTH,
    _of("modelRef", "Moderation"),
    _of("sensitivity", *ATTACKS),
    _of("classifier", *ATTACKS),
    _of("restore", "PII"),
    Rule(
        cel="!has(self.restore) || !self.restore || !has(self.action) || self.action == 'Redact'",
        message="must not be true unless `action` is Redact",
        holds=lambda guard: not guard.restore or guard.action in (None, "Redact"),
        field_path=".restore",
    ),
)

OUTPUT = (
    *_BOTH,
    _of("modelRef", "Moderation", "Grounding"),
    _needs("modelRef", "Grounding"),
    _of("jsonSchema", "Format"),
    _of("pattern", "Format"),
    _of("maxCharacters", "Format"),
    _of("languages", "Format", is_list=True),
    _of("askAgain", "Format"),
    Rule(
        cel="self.type != 'Format' || has(self.jsonSchema) || has(self.pattern) || has(self.maxCharacters) ||"
        " (has(self.languages) && size(self.languages) > 0)",
        message="must have at least one of `jsonSchema`, `pattern`, `maxCharacters` and `languages` when `type` is"
        " Format",
        holds=lambda guard: (
            guard.type != "Format"
            or any(
                one not in (None, ()) for one in (guard.jsonSchema, guard.pattern, guard.maxCharacters, guard.languages)
            )
        ),
    ),
    _of("threshold", "Grounding", "Confidence"),
    _of("aggregate", "Confidence"),
    Rule(
        cel=f"!has(self.action) || self.action != 'Redact' || !({_is_one(ABOUT_ANSWERS)})",
        message=f"must not be Redact when `type` is {_listed(ABOUT_ANSWERS)}: what they find is the whole answer",
        holds=lambda guard: guard.action != "Redact" or guard.type not in ABOUT_ANSWERS,
        field_path=".action",
    ),
    Rule(
        cel=f"!has(self.appliesTo) || size(self.appliesTo) == 0 || !({_is_one(WHOLE_TEXT)})",
        message=f"must not be set when `type` is {_listed(WHOLE_TEXT)}",
        holds=lambda guard: not guard.appliesTo or guard.type not in WHOLE_TEXT,
        field_path=".appliesTo",
    ),
)


def _names_differ(stage: str) -> Rule:
    """NB: compared as they are written. That a name is that of another guard's type is a fault beyond the schema."""

    def holds(spec: Any) -> bool:
        written = [guard.name or str(guard.type) for guard in getattr(spec, stage)]
        return len(set(written)) == len(written)

    return Rule(
        cel=f"!has(self.{stage}) || self.{stage}.all(one, self.{stage}.exists_one(other,"
        " (has(other.name) ? other.name : other.type) == (has(one.name) ? one.name : one.type)))",
        message="must have a `name` for all but one of the guards of the same type, and no name twice",
        holds=holds,
        field_path=f".{stage}",
    )


SPEC = (
    Rule(
        cel="(has(self.input) && size(self.input) > 0) || (has(self.output) && size(self.output) > 0)",
        message="must have at least one of `input` and `output`",
        holds=lambda spec: bool(spec.input or spec.output),
    ),
    _names_differ("input"),
    _names_differ("output"),
)
