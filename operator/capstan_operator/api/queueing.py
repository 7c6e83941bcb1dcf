"""How requests for a model wait until its engine has room."""

from pydantic import Field

from capstan_operator.api.schema import Part, Quantity


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
