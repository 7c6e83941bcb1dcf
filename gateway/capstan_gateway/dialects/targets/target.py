"""What is known of a model that requests are written for."""

from dataclasses import dataclass, field
from typing import Self

from capstan_contract.config import (
    Capability,
    Compatibility,
    ExternalBackend,
    HostedTools,
    MaxTokens,
    ModelEntry,
    Provider,
    ReasoningHistory,
    SystemMessages,
    ToolIds,
)
from capstan_gateway.dialects.targets.private import Pseudonyms

_NOTHING_SAID = Compatibility()


@dataclass(frozen=True, slots=True)
class Target:
    """One model, as whoever writes to it needs it. `said` is what its owner has set, the rest follows from its kind."""

    id: str
    provider: str
    """Empty: an engine of the cluster."""
    said: Compatibility
    reasons: bool
    max_output_tokens: int | None
    context_window: int | None
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms, repr=False, compare=False)
    """What gives its users names: one for the whole process."""
    has_rules: bool = field(init=False)
    """Whether it may want a request of chat's own clients otherwise than it came, beside what holds for every model."""

    def __post_init__(self) -> None:
        """Find out once what is asked with every request."""
        limits = self.max_output_tokens is not None or self.context_window is not None
        object.__setattr__(self, "has_rules", bool(self.provider) or limits or self.said != _NOTHING_SAID)

    @classmethod
    def of(cls, entry: ModelEntry, pseudonyms: Pseudonyms | None = None) -> Self:
        """Read the entry of a model."""
        backend = entry.backend
        return cls(
            id=entry.id,
            provider=backend.provider if isinstance(backend, ExternalBackend) else "",
            said=entry.compatibility or _NOTHING_SAID,
            reasons=Capability.REASONING in entry.capabilities,
            max_output_tokens=entry.maxOutputTokens,
            context_window=entry.contextWindow,
            pseudonyms=Pseudonyms() if pseudonyms is None else pseudonyms,
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is an engine, or an API that is like one: neither OpenAI nor Anthropic themselves."""
        return self.provider in ("", Provider.OPENAI_COMPATIBLE)

    @property
    def system(self) -> SystemMessages:
        """Where a translated conversation may have its system messages. OpenAI takes them anywhere."""
        anywhere = self.provider == Provider.OPENAI
        return self.said.systemMessages or (SystemMessages.ANYWHERE if anywhere else SystemMessages.AS_USER)

    @property
    def wants_reasoning(self) -> bool:
        """Whether a translated conversation has what the model thought: one that reasons, and is not OpenAI's."""
        said = self.said.reasoningHistory
        if said is not None:
            return said is ReasoningHistory.PASS
        return self.reasons and self.is_plain

    @property
    def clamps(self) -> bool:
        """Whether a limit that is too high is lowered, in place of an error."""
        return self.said.maxTokens is not MaxTokens.REFUSE

    @property
    def tool_ids(self) -> ToolIds | None:
        """Which ids of calls a chat may have; None: any, and each goes out as it came."""
        return self.said.toolIds or (ToolIds.OPENAI if self.provider == Provider.OPENAI else None)

    @property
    def refuses_hosted_tools(self) -> bool:
        """Whether tools of a hosted API are an error, in place of being left out."""
        return self.said.hostedTools is HostedTools.REFUSE
