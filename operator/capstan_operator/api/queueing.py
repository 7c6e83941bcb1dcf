"""How requests for a model wait until its engine has room."""

from pydantic import Field

from capstan_operator.api.schema import Part, Quantity


class BatchSpec(Part):
    """Several queued requests in one call of the engine."""

    size: int = Field(ge=2, le=1024)
    """How many inputs one call has at most. A change makes new pods."""
    milliseconds: int | None = Field(default=None, ge=0, le=1000)
    """How long a request waits for others to go with. Default: 50."""


class QueueSpec(Part):
    """How many requests wait, and how many an engine works on."""

    maxEntries: int | None = Field(default=None, ge=1, le=1_000_000)
    """How many requests may wait; further ones get 429. Default: 1000."""
    maxBytes: Quantity | None = None
    """How much their bodies may take of Redis, such as 256Mi; further ones get 429. Default: 256Mi."""
    maxWaitSeconds: int | None = Field(default=None, ge=1, le=86400)
    """Expected wait above which further requests get 429, in seconds. Default: 300."""
    places: int | None = Field(default=None, ge=1, le=10_000)
    """How many requests one replica works on at a time; more wait in the queue, not in the engine. Default: as many as
    the engine says that it has, at most 256; 8 for OpenAICompatible. A change makes new pods."""
    batch: BatchSpec | None = None
    """For an engine that batches nothing itself: queued requests for embeddings or scores that say the same but for
    their inputs go to it in one call, and its answer is taken apart. OpenAICompatible only, with the task embed or
    score; `dispatch: Queue` lets all requests go this way."""
