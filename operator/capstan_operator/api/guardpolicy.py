"""GuardPolicy: what is looked for in what models are asked and in what they answer, and what becomes of it."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from capstan_contract.guards import (
    MOST_GUARDS,
    MOST_TIMEOUT_MILLIS,
    Action,
    Aggregate,
    ModerationFormat,
    OnError,
    PiiEngine,
    PiiKind,
    Sensitivity,
    Unchecked,
    Verdict,
)
from capstan_contract.limits import Mode
from capstan_operator.api.backends import Fraction
from capstan_operator.api.parts import Condition, SecretKeyRef
from capstan_operator.api.patterns import CATEGORY, CHILD_NAME, LANGUAGE, REGION, URL
from capstan_operator.api.policies import AncestorStatus, PolicyMetadata, PolicySpec, TargetSelector
from capstan_operator.api.rules import guards, targets
from capstan_operator.api.schema import AS_SET, ObjectName, Part, Rule, ServedName, bounded_list, listed_by

_ANY_OBJECT = WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
MOST_KEYWORDS = 5000
MOST_PATTERNS = 64
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Keyword = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=URL)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=CATEGORY)]
CountryCode = Annotated[str, StringConstraints(min_length=2, max_length=2, pattern=REGION)]
LanguageCode = Annotated[str, StringConstraints(min_length=2, max_length=2, pattern=LANGUAGE)]


class InputType(StrEnum):
    """What a guard looks for in what is asked."""

    PROMPT_INJECTION = "PromptInjection"
    JAILBREAK = "Jailbreak"
    PII = "PII"
    TOPICS = "Topics"
    MODERATION = "Moderation"
    REGEX = "Regex"
    KEYWORDS = "Keywords"
    WEBHOOK = "Webhook"


class OutputType(StrEnum):
    """What a guard looks for in what is answered."""

    PII = "PII"
    TOPICS = "Topics"
    MODERATION = "Moderation"
    REGEX = "Regex"
    KEYWORDS = "Keywords"
    FORMAT = "Format"
    GROUNDING = "Grounding"
    CONFIDENCE = "Confidence"
    WEBHOOK = "Webhook"


class InputSource(StrEnum):
    """Whose text of a request it is."""

    SYSTEM = "System"
    USER = "User"
    ASSISTANT = "Assistant"
    TOOL_RESULTS = "ToolResults"
    DOCUMENTS = "Documents"


class OutputSource(StrEnum):
    """Which part of an answer it is."""

    TEXT = "Text"
    TOOL_ARGUMENTS = "ToolArguments"
    REASONING = "Reasoning"


class ModelRef(Part):
    """An LLMModel of the namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=CHILD_NAME)]
    """Name of the LLMModel."""


class ClassifierSpec(Part):
    """A model that is asked where the gateway itself is unsure."""

    modelRef: ModelRef
    """A model of task classify (such as Prompt Guard), or one of task chat as a judge."""


class EmbeddingSpec(Part):
    """What makes vectors of texts."""

    modelRef: ModelRef
    """A model of task embed."""


class EntitySpec(Part):
    """One kind of personal data."""

    type: PiiKind = Field(strict=False)
    """What it is. Person, Address and Organization are found by engine Presidio alone."""
    threshold: Fraction | None = None
    """Least score. Default: the kind's own."""
    action: Annotated[Action, Field(strict=False)] | None = None
    """What becomes of this kind. Default: the guard's `action`."""


class TopicSpec(Part):
    """Something that is talked about."""

    name: ObjectName
    """Name of the topic; the audit record says it."""
    phrases: tuple[Phrase, ...] = bounded_list(128)
    """Words that are of it, in any case."""
    examples: tuple[Sentence, ...] = bounded_list(64)
    """Sentences that are of it: what is similar to one is too."""

    rules: ClassVar[tuple[Rule, ...]] = guards.TOPIC


class ModerationEndpoint(Part):
    """A service that moderates as OpenAI's /v1/moderations does."""

    url: Url
    """To the end of its path: https://api.openai.com/v1/moderations."""
    model: ServedName | None = None
    """What it is told as `model`."""
    apiKeySecretRef: SecretKeyRef | None = None
    """Its API key. The Secret must have the label capstan.dev/credential: "true"."""


class CategorySpec(Part):
    """One kind of harm."""

    name: Category
    """As the model calls it: `violence`, `self-harm/intent`, `S1`."""
    threshold: Fraction | None = None
    """Least score. Default: as the model flags it."""


class PatternSpec(Part):
    """An expression."""

    name: ObjectName
    """Name of the pattern; the audit record says it."""
    pattern: Expression
    """In the syntax of RE2, which has neither look-around nor back references and never takes long."""


class GuardSpec(Part):
    """What every guard has, and what those of each type have that look at requests and at answers."""

    name: ObjectName | None = None
    """Unique in its list: what clients, metrics, the status and the audit record call it. Default: `type` in lower
    case, such as prompt-injection."""
    type: StrEnum
    """What it looks for."""
    action: Annotated[Action, Field(strict=False)] | None = None
    """What becomes of a text in which it has found something. Block: the request is refused, or the answer ended.
    Redact: what was found is replaced, and the rest goes on. Warn: it goes on as it is, and a header and a metric say
    so. Default: Redact for PII, Block for all others."""
    onError: OnError = Field(default=OnError.CLOSED, strict=False)
    """What becomes of it where the guard fails or is too slow. Closed: an error, and nothing is passed on. Open: it
    goes on as if nothing had been found."""
    timeoutMillis: int = Field(default=2000, ge=1, le=MOST_TIMEOUT_MILLIS)
    """How long it may take."""
    appliesTo: tuple[StrEnum, ...] = ()
    """The texts that it looks at."""
    message: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """What a client is told of a block, in place of the usual words."""

    entities: tuple[EntitySpec, ...] = bounded_list(32, json_schema_extra=listed_by("type"))
    """Of PII: the kinds that are looked for. Default: all that the engine knows."""
    allowList: tuple[Phrase, ...] = bounded_list(256)
    """Of PII: values that are none, whatever they look like; compared without case."""
    regions: tuple[CountryCode, ...] = bounded_list(32, json_schema_extra=AS_SET)
    """Of PII: ISO 3166 codes of the countries whose phone numbers are known without their prefix. Default: the usual
    ones."""
    engine: Annotated[PiiEngine, Field(strict=False)] | None = None
    """Of PII: BuiltIn finds what has a form of its own. Presidio finds names, addresses and organisations as well, and
    must be in the gateway's image. Default: BuiltIn."""

    deny: tuple[TopicSpec, ...] = bounded_list(32, json_schema_extra=listed_by("name"))
    """Of Topics: what must not be talked about."""
    allow: tuple[TopicSpec, ...] = bounded_list(32, json_schema_extra=listed_by("name"))
    """Of Topics: what may be talked about. Where there is any, what is of none of these is found."""
    similarity: Fraction | None = None
    """Of Topics: the least cosine of a text and an example. Default: 0.6."""
    embedding: EmbeddingSpec | None = None
    """Of Topics: what compares texts with examples. Default: the gateway itself does."""

    modelRef: ModelRef | None = None
    """Of Moderation: a model that judges texts, such as Llama Guard. Of Grounding: one of task chat, classify or score
    that says whether a sentence is supported."""
    endpoint: ModerationEndpoint | None = None
    """Of Moderation: a service, in place of `modelRef`."""
    format: Annotated[ModerationFormat, Field(strict=False)] | None = None
    """Of Moderation with a `modelRef`: how the model is asked, and how it answers. Default: Auto, by its name."""
    categories: tuple[CategorySpec, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """Of Moderation: the kinds of harm that count. Default: all."""

    patterns: tuple[PatternSpec, ...] = bounded_list(MOST_PATTERNS, json_schema_extra=listed_by("name"))
    """Of Regex: what is looked for."""
    keywords: tuple[Keyword, ...] = bounded_list(MOST_KEYWORDS)
    """Of Keywords: what is looked for."""
    caseSensitive: bool | None = None
    """Of Keywords: whether A is another letter than a. Default: false."""
    wholeWords: bool | None = None
    """Of Keywords: whether a keyword counts as a word of its own only. Default: true."""

    url: Url | None = None
    """Of Webhook: where the guard answers. docs/guards-asking.md has what it is sent, and what it says."""
    secretRef: SecretKeyRef | None = None
    """Of Webhook: the key that signs what is sent (HMAC-SHA256). The Secret must have the label
    capstan.dev/credential: "true"."""
    verdict: Annotated[Verdict, Field(strict=False)] | None = None
    """Of Webhook with a `secretRef`: Signed takes no verdict that is not signed with that key for this very request.
    Default: Unsigned."""


class InputGuardSpec(GuardSpec):
    """A guard of what is asked."""

    type: InputType = Field(strict=False)
    """What it looks for."""
    appliesTo: tuple[Annotated[InputSource, Field(strict=False)], ...] = bounded_list(5, json_schema_extra=AS_SET)
    """The texts that it looks at. Default: User, ToolResults and Documents for PromptInjection, Jailbreak and
    Moderation; User for Topics; all for the others."""
    sensitivity: Annotated[Sensitivity, Field(strict=False)] | None = None
    """Of PromptInjection and Jailbreak: how little is enough. Default: Medium."""
    classifier: ClassifierSpec | None = None
    """Of PromptInjection and Jailbreak: a model that is asked as well, where the gateway itself is unsure."""
    restore: bool | None = None
    """Of PII with action Redact: whether what was replaced is in the answer again. Default: false."""

    rules: ClassVar[tuple[Rule, ...]] = guards.INPUT


class OutputGuardSpec(GuardSpec):
    """A guard of what is answered."""

    type: OutputType = Field(strict=False)
    """What it looks for."""
    appliesTo: tuple[Annotated[OutputSource, Field(strict=False)], ...] = bounded_list(3, json_schema_extra=AS_SET)
    """The texts that it looks at. Default: Text for Format, Grounding and Confidence; Text and Reasoning for Topics
    and Moderation; all for the others."""
    jsonSchema: Annotated[dict[str, Any], _ANY_OBJECT] | None = None
    """Of Format: a JSON Schema (draft 2020-12) for the answer."""
    pattern: Expression | None = None
    """Of Format: an expression in the syntax of RE2 that the whole answer must match."""
    maxCharacters: int | None = Field(default=None, ge=1, le=10_000_000)
    """Of Format: the most characters of an answer."""
    languages: tuple[LanguageCode, ...] = bounded_list(32, json_schema_extra=AS_SET)
    """Of Format: ISO 639-1 codes, of which the answer must be in one."""
    askAgain: bool | None = None
    """Of Format: whether the model is asked once more, and told what was wrong, before the action is taken. Default:
    false."""
    threshold: Fraction | None = None
    """Of Grounding: the least share of sentences that are supported. Of Confidence: the least probability. Default:
    0.5."""
    aggregate: Annotated[Aggregate, Field(strict=False)] | None = None
    """Of Confidence: how one number is made of those of all tokens. Default: Mean."""

    rules: ClassVar[tuple[Rule, ...]] = guards.OUTPUT


# NB: put together out here, because in the class names of fields hide those of modules.
_SPEC_RULES = (*targets.SPEC, *guards.SPEC)


class GuardPolicySpec(PolicySpec):
    """What the user wants. At most one policy of a level is in force on a model, and one more may be tried in mode
    Shadow. One without targets, of the namespace that Capstan is installed in, is a floor: it is in force beside the
    model's own, and nobody else can take it away."""

    targetSelector: TargetSelector | None = None
    """Labels of the LLMModels that it is for, of its own namespace, in place of `targetRefs`. A policy of the namespace
    that Capstan is installed in, and no other, may have neither: it is for all models of all namespaces, beside the
    policies that they have themselves."""
    mode: Mode = Field(default=Mode.ENFORCE, strict=False)
    """Enforce: what is found is blocked, redacted or told. Shadow: what would have been is counted, and nothing
    changes, nor takes longer."""
    input: tuple[InputGuardSpec, ...] = bounded_list(MOST_GUARDS)
    """Guards of what is asked. They run before anything is spent, all at once."""
    output: tuple[OutputGuardSpec, ...] = bounded_list(MOST_GUARDS)
    """Guards of what is answered, in streams too: nothing is passed on before it was looked at."""
    unchecked: Unchecked = Field(default=Unchecked.ALLOW, strict=False)
    """What becomes of requests with images, audio or files that no guard can read. Allow: they are passed on, and the
    metrics say that they were not checked. Block: they are refused."""

    rules: ClassVar[tuple[Rule, ...]] = _SPEC_RULES


class GuardDecisionsStatus(Part):
    """What one guard has decided."""

    stage: Literal["input", "output"]
    """Which list it is in."""
    name: ObjectName
    """Name of the guard."""
    type: Annotated[str, StringConstraints(max_length=63)]
    """What it looks for."""
    blocked: int = Field(default=0, ge=0)
    """Requests and answers that it has blocked."""
    redacted: int = Field(default=0, ge=0)
    """Those in which it has replaced something."""
    warned: int = Field(default=0, ge=0)
    """Those of which it has warned."""
    failed: int = Field(default=0, ge=0)
    """Times that it could not decide."""


class DecisionsStatus(Part):
    """What the guards have decided, as the gateway's replicas have said last; of mode Shadow, what they would have.
    Written now and then, not at once."""

    observedTime: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """When they said so."""
    since: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """From when on it is counted. Replicas that are gone count with what they have said last."""
    blocked: int = Field(default=0, ge=0)
    """Requests and answers that were blocked, by all guards together."""
    redacted: int = Field(default=0, ge=0)
    """Those in which something was replaced."""
    warned: int = Field(default=0, ge=0)
    """Those of which was warned."""
    failed: int = Field(default=0, ge=0)
    """Times that a guard could not decide."""
    guards: tuple[GuardDecisionsStatus, ...] = bounded_list(2 * MOST_GUARDS)
    """The same by guard, in the order of the policy."""


class GuardPolicyStatus(Part):
    """What is."""

    observedGeneration: int | None = Field(default=None, ge=0)
    """The newest generation that the operator has dealt with."""
    conditions: tuple[Condition, ...] = bounded_list(8, json_schema_extra=listed_by("type"))
    """Accepted, Programmed: those of the ancestor, where `kubectl wait` looks for them."""
    models: int | None = Field(default=None, ge=0)
    """LLMModels that it is in force on."""
    ancestors: tuple[AncestorStatus, ...] = bounded_list(16)
    """The gateway, and what the policy comes to there."""
    decisions: DecisionsStatus | None = None
    """What its guards have decided."""


class GuardPolicy(Part):
    """What must not be in what models are asked and in what they answer, and what becomes of it."""

    apiVersion: Literal["capstan.dev/v1alpha1"] = "capstan.dev/v1alpha1"
    """Version of this schema."""
    kind: Literal["GuardPolicy"] = "GuardPolicy"
    """Kind of the resource."""
    metadata: PolicyMetadata
    """Standard metadata of the object."""
    spec: GuardPolicySpec
    """What the user wants."""
