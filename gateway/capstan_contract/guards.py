"""What a GuardPolicy comes to in the gateway config: the `body` of its `PolicyEntry`.

A policy has two lists of guards: what is asked of models passes the first, what they answer the second. Each guard is
of a type, which says what it looks for and what its settings are; the rest is the same for all.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue, model_validator

from capstan_contract.entries import Document, PolicyEntry, PolicyTargets
from capstan_contract.limits import Mode

GUARD_KIND: Final = "GuardPolicy"
MOST_GUARDS: Final = 32
"""Most guards of one stage of a policy."""
MOST_TIMEOUT_MILLIS: Final = 60_000


class Stage(StrEnum):
    """Where a guard stands."""

    INPUT = "input"
    OUTPUT = "output"


class Action(StrEnum):
    """What becomes of a request or an answer in which a guard has found something."""

    BLOCK = "Block"
    REDACT = "Redact"
    """What was found is replaced, and the rest goes on."""
    WARN = "Warn"
    """It goes on as it is; a header and a metric say so."""


class OnError(StrEnum):
    """What becomes of it when a guard could not decide: it failed, or was too slow."""

    CLOSED = "Closed"
    OPEN = "Open"


class Unchecked(StrEnum):
    """What becomes of requests with images, audio or files that no guard can read."""

    ALLOW = "Allow"
    BLOCK = "Block"


class Source(StrEnum):
    """What a text is, by who has written it."""

    SYSTEM = "System"
    """Of the system or the developer."""
    USER = "User"
    ASSISTANT = "Assistant"
    """Earlier answers, as the client sends them back."""
    TOOL_RESULTS = "ToolResults"
    DOCUMENTS = "Documents"
    """Retrieved texts and files that are named as such."""
    TEXT = "Text"
    """Of an answer: what the model says."""
    TOOL_ARGUMENTS = "ToolArguments"
    """Of an answer: with what the model calls tools."""
    REASONING = "Reasoning"
    """Of an answer: what the model thinks aloud."""


ASKED: Final = (Source.SYSTEM, Source.USER, Source.ASSISTANT, Source.TOOL_RESULTS, Source.DOCUMENTS)
"""What a request has."""
ANSWERED: Final = (Source.TEXT, Source.TOOL_ARGUMENTS, Source.REASONING)
"""What an answer has."""


class Sensitivity(StrEnum):
    """How little is enough for a detector."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class Guard(Document):
    """What all guards have."""

    name: str
    """Unique in its stage: what clients, metrics and the audit record call it."""
    action: Action = Action.BLOCK
    onError: OnError = OnError.CLOSED
    timeoutMillis: int = Field(default=2000, ge=1, le=MOST_TIMEOUT_MILLIS)
    appliesTo: tuple[Source, ...]
    """The texts that it looks at; never empty."""
    message: str | None = None
    """What a client is told of a block, instead of the usual words."""


class Classifier(Document):
    """A model that is asked where what is in the process is unsure."""

    model: str
    """Id of a model of task classify, or of task chat as a judge."""


class AttackGuard(Guard):
    """Looks for who wants to take over the model (PromptInjection), or to talk it out of its rules (Jailbreak)."""

    type: Literal["PromptInjection", "Jailbreak"]
    sensitivity: Sensitivity = Sensitivity.MEDIUM
    classifier: Classifier | None = None


class PiiKind(StrEnum):
    """What personal data, or secret, something is."""

    EMAIL = "Email"
    PHONE = "Phone"
    CARD = "Card"
    """The number of a payment card."""
    IBAN = "Iban"
    BIC = "Bic"
    BANK_ACCOUNT = "BankAccount"
    SSN = "Ssn"
    """A Social Security number of the United States."""
    NATIONAL_ID = "NationalId"
    TAX_ID = "TaxId"
    PASSPORT = "Passport"
    DRIVER_LICENSE = "DriverLicense"
    MEDICAL_ID = "MedicalId"
    """The number of a patient, or of an insured."""
    DATE_OF_BIRTH = "DateOfBirth"
    IP_ADDRESS = "IpAddress"
    MAC_ADDRESS = "MacAddress"
    CRYPTO_ADDRESS = "CryptoAddress"
    URL_CREDENTIALS = "UrlCredentials"
    """An address with a password in it, such as those of databases."""
    SECRET = "Secret"  # noqa: S105
    """A password, token, key."""
    PERSON = "Person"
    ADDRESS = "Address"
    ORGANIZATION = "Organization"


NAMED_KINDS: Final = frozenset({PiiKind.PERSON, PiiKind.ADDRESS, PiiKind.ORGANIZATION})
"""Those without a form of their own: only an engine that reads the language finds them."""


class PiiEntity(Document):
    """One kind of personal data."""

    type: str
    """A PiiKind. Others are refused where the policy is put in force, so that an older gateway says so."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Least score; None: the kind's own."""
    action: Action | None = None
    """None: the guard's."""


class PiiEngine(StrEnum):
    """What finds names, addresses and organisations."""

    BUILT_IN = "BuiltIn"
    """Nothing does: only what has a form of its own is found."""
    PRESIDIO = "Presidio"


class PiiGuard(Guard):
    """Looks for personal data, and for secrets."""

    type: Literal["PII"] = "PII"
    action: Action = Action.REDACT
    entities: tuple[PiiEntity, ...] = ()
    """Empty: all kinds that the engine knows."""
    allowList: tuple[str, ...] = ()
    """Values that are none, whatever they look like; compared without case."""
    regions: tuple[str, ...] = ()
    """ISO 3166 codes of the countries whose phone numbers are known without their prefix; empty: of all usual ones."""
    restore: bool = False
    """Whether placeholders in the answer become again what they stand for. Of Redact on input."""
    engine: PiiEngine = PiiEngine.BUILT_IN


class Topic(Document):
    """Something that is talked about."""

    name: str
    phrases: tuple[str, ...] = ()
    """Words that are of it."""
    examples: tuple[str, ...] = ()
    """Sentences that are of it: what is similar to one is too."""


class TopicsGuard(Guard):
    """Looks for what must not be talked about, or for anything beside what may be."""

    type: Literal["Topics"] = "Topics"
    deny: tuple[Topic, ...] = ()
    allow: tuple[Topic, ...] = ()
    """Not empty: what is of none of these is found."""
    similarity: float = Field(default=0.6, ge=0, le=1)
    """Least cosine of a text and an example."""
    model: str | None = None
    """Id of a model of task embed; None: the embeddings in the process."""


class ModerationFormat(StrEnum):
    """How a moderating model is asked, and how it answers."""

    AUTO = "Auto"
    """By the name of the model."""
    OPENAI = "OpenAI"
    LLAMA_GUARD = "LlamaGuard"
    SHIELD_GEMMA = "ShieldGemma"


class ModerationCategory(Document):
    """One kind of harm."""

    name: str
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Least score; None: as the model flags it."""


class ModerationGuard(Guard):
    """Asks a model, or somebody's service, whether a text is harmful. One of `model` and `url`."""

    type: Literal["Moderation"] = "Moderation"
    model: str | None = None
    url: str | None = None
    """Of an OpenAI-shaped moderation endpoint, to the end of its path."""
    upstreamModel: str | None = None
    """What that is told as `model`."""
    credentialFile: str | None = None
    """File with the key for `url`."""
    format: ModerationFormat = ModerationFormat.AUTO
    categories: tuple[ModerationCategory, ...] = ()
    """Empty: all."""


class RegexPattern(Document):
    """An expression in the syntax of RE2."""

    name: str
    pattern: str


class RegexGuard(Guard):
    """Looks for what matches expressions."""

    type: Literal["Regex"] = "Regex"
    patterns: tuple[RegexPattern, ...]


class KeywordsGuard(Guard):
    """Looks for words."""

    type: Literal["Keywords"] = "Keywords"
    keywords: tuple[str, ...]
    caseSensitive: bool = False
    wholeWords: bool = True


class FormatGuard(Guard):
    """Finds that an answer has not the form that is asked for. All that is set must hold."""

    type: Literal["Format"] = "Format"
    jsonSchema: dict[str, JsonValue] | None = None
    pattern: str | None = None
    """In the syntax of RE2; the whole text must match."""
    maxCharacters: int | None = Field(default=None, ge=1)
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes, of which the text must be in one."""
    askAgain: bool = False
    """Whether the model is asked once more, and told what was wrong, before the action is taken."""


class GroundingGuard(Guard):
    """Finds what an answer says and the texts of the request do not: by a model of task chat, classify or score."""

    type: Literal["Grounding"] = "Grounding"
    model: str
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Least share of sentences that are supported."""


class Aggregate(StrEnum):
    """How one number is made of those of all tokens."""

    MEAN = "Mean"
    MINIMUM = "Minimum"


class ConfidenceGuard(Guard):
    """Finds that the model was not sure of its answer, by the probability of its tokens."""

    type: Literal["Confidence"] = "Confidence"
    aggregate: Aggregate = Aggregate.MEAN
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Least probability: e to the power of the mean, or least, log-probability."""


class Verdict(StrEnum):
    """What an answer must be to count."""

    UNSIGNED = "Unsigned"
    SIGNED = "Signed"
    """By the key that signs what is sent, for this very question."""


class WebhookGuard(Guard):
    """Asks a service of the user's own."""

    type: Literal["Webhook"] = "Webhook"
    url: str
    secretFile: str | None = None
    """File with the key that signs what is sent (HMAC-SHA256)."""
    verdict: Verdict = Verdict.UNSIGNED


AnyGuard = Annotated[
    AttackGuard
    | PiiGuard
    | TopicsGuard
    | ModerationGuard
    | RegexGuard
    | KeywordsGuard
    | FormatGuard
    | GroundingGuard
    | ConfidenceGuard
    | WebhookGuard,
    Field(discriminator="type"),
]


class GuardBody(Document):
    """A GuardPolicy, compiled."""

    mode: Mode = Mode.ENFORCE
    input: tuple[AnyGuard, ...] = Field(default=(), max_length=MOST_GUARDS)
    output: tuple[AnyGuard, ...] = Field(default=(), max_length=MOST_GUARDS)
    unchecked: Unchecked = Unchecked.ALLOW

    @model_validator(mode="after")
    def _guards_fit_their_stage(self) -> "GuardBody":
        for guards, sources in ((self.input, ASKED), (self.output, ANSWERED)):
            names = [guard.name for guard in guards]
            if len(set(names)) < len(names):
                raise ValueError("names of the guards of a stage must be unique")
            if any(not guard.appliesTo or not set(guard.appliesTo) <= set(sources) for guard in guards):
                raise ValueError("`appliesTo` must name texts of the guard's stage")
        if any(isinstance(guard, FormatGuard | GroundingGuard | ConfidenceGuard) for guard in self.input):
            raise ValueError("Format, Grounding and Confidence are about answers")
        return self


def check_guard_body(body: Mapping[str, Any]) -> GuardBody:
    """Read the body of a policy, without the fields that this release does not know. Raises ValidationError."""
    return GuardBody.model_validate(body, extra="ignore")


def read_guard_body(entry: PolicyEntry) -> GuardBody:
    """Do the same with a policy's entry."""
    return check_guard_body(entry.body)


def models_of_guard(guard: AnyGuard) -> Iterable[str]:
    """Give the ids of the models that a guard asks."""
    if isinstance(guard, TopicsGuard | ModerationGuard | GroundingGuard) and guard.model is not None:
        yield guard.model
    elif isinstance(guard, AttackGuard) and guard.classifier is not None:
        yield guard.classifier.model


def models_of(body: GuardBody) -> Iterable[str]:
    """Give the ids of the models that the guards of a policy ask."""
    for guard in (*body.input, *body.output):
        yield from models_of_guard(guard)


def guard_policy_id(namespace: str, name: str) -> str:
    """Give the id of the entry of a GuardPolicy."""
    return f"{GUARD_KIND}/{namespace}/{name}"


def guard_entry(
    namespace: str, name: str, body: GuardBody, *, uid: str = "", targets: PolicyTargets | None = None
) -> PolicyEntry:
    """Make the entry of a policy."""
    # NB: `type` is written although it may be the default: it says how the rest is to be read.
    written = body.model_dump(mode="json", exclude_defaults=True)
    for stage in Stage:
        for document, guard in zip(written.get(stage.value, ()), getattr(body, stage.value), strict=False):
            document["type"] = guard.type
    return PolicyEntry(id=guard_policy_id(namespace, name), kind=GUARD_KIND, uid=uid, targets=targets, body=written)


class GuardCounts(Document):
    """What one guard has decided since its gateway replica began, or since the policy was there."""

    stage: Stage
    name: str
    type: str
    blocked: int = Field(default=0, ge=0)
    redacted: int = Field(default=0, ge=0)
    warned: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    """Times that it could not decide."""


class GuardsReport(Document):
    """What a gateway replica says at /internal/guards. In mode Shadow the counts are what would have been."""

    since: int
    """Unix seconds: when the replica began to count."""
    policies: dict[str, tuple[GuardCounts, ...]] = Field(default_factory=dict)
    """Those that are in force, by the id of their entries."""
