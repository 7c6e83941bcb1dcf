"""What the stages need of the process. Made once, passed to every stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from capstan_gateway.arms.experiments import Experiments
from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.feedback.given import Given
from capstan_gateway.images.fetch import ImageFetcher
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.estimates import MeanOutputs
from capstan_gateway.queueing.urgency import Urgency
from capstan_gateway.routing.held_blocks import PromptBlocks
from capstan_gateway.routing.port import DispatchPort
from capstan_gateway.selection.route_memory import RouteMemory
from capstan_gateway.stores.responses import ResponseStore
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.telemetry.requestlog import RequestLog
from capstan_gateway.telemetry.tenants import TenantMetrics
from capstan_gateway.telemetry.usage_counts import UsageCounts
from capstan_gateway.tokens.counter import NO_COUNTERS, Counters, PromptCounter
from capstan_gateway.upstream.port import UpstreamClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Asks services that policies name: at no address that is not for them (`images.addresses.is_for_policies`)."""

    secure: UpstreamClient
    """By https."""
    plain: UpstreamClient
    """By http: in private networks only."""
    hosts: tuple[str, ...] = ()
    """Those that policies of namespaces may name, as `--policy-hosts` has them; without any they may name all."""


class BlocksOfPrompts(Protocol):
    """Who knows the blocks of prompts; `pipeline.prompt_blocks.Prompts` is one."""

    async def blocks_of(self, ask: Any, model: ServedModel, *, size: int, salt: str) -> PromptBlocks | None:
        """Give the blocks of a prompt as the model's engines name them to their workers; None where nobody knows them.

        `size` is how many bytes are sent of it, `salt` the `cache_salt` that goes with it. It never raises but when it
        is cancelled, and is bounded in time.
        """
        ...

    async def made_here(self, ask: Any, model: ServedModel, counter: PromptCounter) -> Sequence[int] | None:
        """Give the tokens that the model's tokenizer makes of a prompt; None where it cannot tell, or is too busy."""
        ...

    async def ask_engine(self, ask: Any, model: ServedModel) -> Sequence[int] | None:
        """Give the tokens that a model's engine makes of a prompt that is text; None where it does not tell them.

        Raises RoutingError, UpstreamError or GatewayError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Dependencies and bounds of the pipeline."""

    dispatcher: DispatchPort
    credentials: Credentials
    metrics: Metrics
    memory: RouteMemory
    """What the routes of virtual models remember."""
    request_log: RequestLog
    budget: MemoryBudget
    """What all requests and answers may hold together."""
    executor: Threads
    """A thread of its own for parsing what is large."""
    background: Background
    """Work that belongs to no client."""
    clock: Callable[[], float]
    """Seconds, on the same clock as the loop but finer: uvloop counts its own in milliseconds."""
    loop_time: Callable[[], float]
    """The loop's own time, in which breakers think."""
    max_body_bytes: int
    endpoint_wait_seconds: float
    tenants: TenantMetrics | None = None
    """Counts what tenants use; None: nobody does."""
    pseudonyms: Pseudonyms = field(default_factory=Pseudonyms)
    """What names of users become in the log."""
    given: Given | None = None
    """Knows which answers were given to whom; None: nobody can say anything of them."""
    experiments: Experiments = field(default_factory=Experiments)
    """Counts what members of weighted routers do."""
    means: MeanOutputs = field(default_factory=MeanOutputs)
    """How long answers of models are."""
    images: ImageFetcher | None = None
    """Fetches images that requests name by URL, for models' own engines; None: those get the URLs."""
    comment_seconds: float = 0.0
    """How often a stream that waits for its first token gets a comment; 0: never."""
    tiers: Mapping[str, Urgency] | None = None
    """How urgent in queues requests of tiers are; None: there are no queues."""
    responses: ResponseStore | None = None
    """Keeps responses of `/v1/responses`; None: nothing is stored."""
    later: BackgroundRoom | None = None
    """Answers responses in the background; None: nothing is stored, so that they would be of no use."""
    usage: UsageCounts | None = None
    """Counts what tenants, teams and users have used of which model; None: nobody does."""
    outside: Outside | None = None
    """Asks the services that policies name by a URL."""
    counters: Counters = NO_COUNTERS
    """Count prompts exactly, of models whose tokenizer is here."""
    prompts: BlocksOfPrompts | None = None
    """Knows the blocks of prompts, of models whose engines tell which they hold; None: nobody does."""
    counting: Threads = field(default_factory=lambda: Threads("counting"))
    """A thread of its own for that, where a request waits to be decided."""
    tokenizing: Threads = field(default_factory=lambda: Threads("tokenizing"))
    """Another, for the routes that count and for what is compared: neither keeps a decision waiting."""
