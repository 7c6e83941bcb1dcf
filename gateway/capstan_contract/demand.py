"""How much is asked of models: what a gateway replica says at `DEMAND_PATH`, for whoever decides how many replicas.

    {"version":1,"models":{"team-a/chat":{"inFlight":3,"waiting":2,"coldWaiting":0,"arrivalsPerSecond":1.5,...,
                                          "queue":{"waiting":5,"running":8,"room":0,...}}}}

What stands in a model itself is this replica's own: whoever has asked all replicas adds that up. What stands in `queue`
is of the queue on Redis, which all replicas share: it is the same whoever says it, and the youngest one counts.

A reader takes what it knows. Fields that it does not know change nothing, a model that it cannot read is left out and
named; only a page of another version is refused as a whole.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, FiniteFloat, NonNegativeInt, ValidationError

from capstan_contract.entries import Document, is_empty, is_none

DEMAND_PATH: Final = "/internal/demand"
DEMAND_VERSION: Final = 1
DEMAND_SECONDS: Final = 30.0
"""Time constant of what is said per second: what is older than about twice this hardly counts."""


class DemandError(ValueError):
    """A page that is none of this version; the message says what is wrong."""


class QueueState(Document):
    """How the queue on Redis stands, of all replicas together."""

    waiting: NonNegativeInt = 0
    """In all classes."""
    running: NonNegativeInt = 0
    """Entries that workers have."""
    room: NonNegativeInt = 0
    """How many more workers would take."""
    workers: NonNegativeInt = 0
    gateways: NonNegativeInt = 0
    oldestWaitSeconds: FiniteFloat = Field(default=0.0, ge=0)
    meanSeconds: FiniteFloat = Field(default=0.0, ge=0)
    """Between two entries that workers take, while others wait; 0: not known."""
    ageSeconds: FiniteFloat = Field(default=0.0, ge=0)
    """How long ago the replica read that."""


class ModelDemand(Document):
    """What is asked of one model by way of one replica."""

    inFlight: NonNegativeInt = 0
    """Requests that an endpoint or a worker has."""
    waiting: NonNegativeInt = 0
    """Requests that nobody works on yet: in the queue, or in memory for an endpoint. They are not in `inFlight`."""
    coldWaiting: NonNegativeInt = 0
    """Those of them that wait while the model has no ready endpoint."""
    oldestWaitSeconds: FiniteFloat = Field(default=0.0, ge=0)
    """Of those that wait now."""
    readyEndpoints: NonNegativeInt = 0
    """As this replica sees them."""
    arrivalsPerSecond: FiniteFloat = Field(default=0.0, ge=0)
    """Requests to the model, whatever became of them; averaged over DEMAND_SECONDS."""
    rejectedPerSecond: FiniteFloat = Field(default=0.0, ge=0)
    """Those of them that were refused because too much waits, or gave up waiting because their time was over."""
    arrived: NonNegativeInt | None = Field(default=None, exclude_if=is_none)
    """Requests since the replica began, of which a rate tells late that there are none any more. None: a release from
    before the field."""
    rejected: NonNegativeInt | None = Field(default=None, exclude_if=is_none)
    """The same of those that were refused, or gave up waiting."""
    tokensPerSecond: FiniteFloat = Field(default=0.0, ge=0)
    """Prompt and output together."""
    firstTokenP95Seconds: FiniteFloat | None = Field(default=None, ge=0, exclude_if=is_none)
    """Of recent streams, waiting in the queue included; None: there were too few."""
    kvCacheUtilization: FiniteFloat | None = Field(default=None, ge=0, le=1, exclude_if=is_none)
    """Share of the KV cache that requests use, on average over the ready endpoints that have told it lately; None:
    none has, or the release is from before the field."""
    kvCacheEndpoints: NonNegativeInt = Field(default=0, exclude_if=is_empty)
    """How many these are."""
    queue: QueueState | None = Field(default=None, exclude_if=is_none)
    """None: the model has no queue, or the replica does not reach Redis."""


class DemandReport(Document):
    """What a replica says of all models that it serves."""

    version: Literal[1] = DEMAND_VERSION
    models: dict[str, ModelDemand] = Field(default_factory=dict)
    """By `namespace/name` of the LLMModel. One that is not there is not served by this replica (yet)."""


class ReadDemand(NamedTuple):
    """What a page says."""

    models: dict[str, ModelDemand]
    unreadable: tuple[str, ...]
    """Models of which the page says what is no demand: nothing is known of theirs."""


def read_demand(text: bytes | str) -> ReadDemand:
    """Read a page. Raises DemandError for what is none, or of another version."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise DemandError("a page of demand must be JSON") from None
    if not isinstance(said, dict) or type(said.get("version")) is not int or said["version"] != DEMAND_VERSION:
        raise DemandError(f"a page of demand must be an object with `version` {DEMAND_VERSION}")
    models = said.get("models", {})
    if not isinstance(models, dict):
        raise DemandError("a page's `models` must be an object")
    read: dict[str, ModelDemand] = {}
    unreadable: list[str] = []
    for model_id, demand in models.items():
        try:
            read[model_id] = _read_model(demand)
        except ValidationError:
            unreadable.append(model_id)
    return ReadDemand(read, tuple(unreadable))


def _read_model(demand: Any) -> ModelDemand:
    if isinstance(demand, Mapping):
        # A queue that cannot be read says nothing of the model itself.
        try:
            return ModelDemand.model_validate(demand, extra="ignore")
        except ValidationError as error:
            if any(one["loc"][:1] != ("queue",) for one in error.errors()):
                raise
        demand = {**demand, "queue": None}
    return ModelDemand.model_validate(demand, extra="ignore")
