"""One request as one arm counts it: a member of a weighted router, or a track of a model.

A request belongs to the arm that it was given to, whoever answers in the end: a member that fails and leaves its
requests to another would look the better for it otherwise. What is counted of an answer, its times and its price, is
that of the arm's own answers alone.
"""

from typing import Final, NamedTuple

from capstan_contract.tracks import Quantity
from capstan_gateway.arms.tally import Tally

MICRO: Final = 1_000_000
CLIENT_GONE: Final = 499
SERVER_ERROR: Final = 500
OK: Final = 200


class Went(NamedTuple):
    """How a request went. Times are seconds."""

    status: int
    """That the client was told; CLIENT_GONE when it did not wait for it."""
    seconds: float
    """From its arrival to its end."""
    first_token: float | None = None
    """From its arrival to the first byte of a stream; None: it is no stream."""
    inter_token: float | None = None
    """Mean time between two events of the stream; None: there were not two."""
    nanos: int | None = None
    """What it has cost in nano-dollars; None: nobody knows."""


class Counted:
    """One request in one arm."""

    __slots__ = ("answered", "bucket", "epoch", "key", "member", "tally")

    def __init__(self, tally: Tally, bucket: int, *, key: str = "", epoch: str = "", member: str = "") -> None:
        self.tally: Final = tally
        self.bucket: Final = bucket
        self.key: Final = key
        """Id of the router, or of the model whose tracks are counted."""
        self.epoch: Final = epoch
        """Of the experiment, or of the try of a canary."""
        self.member: Final = member
        """Id of the member, or the track."""
        self.answered = True
        """Whether the arm's own model gave the answer; False when another one had to."""

    def count(self, went: Went) -> None:
        """Count it at its end. Once; nothing is counted of a client that did not wait."""
        if went.status == CLIENT_GONE:
            return
        add, bucket = self.tally.add, self.bucket
        failed = went.status >= SERVER_ERROR or not self.answered
        add(Quantity.ERROR, bucket, int(failed))
        if failed or went.status != OK:
            return
        add(Quantity.LATENCY, bucket, int(went.seconds * MICRO))
        if went.first_token is not None:
            add(Quantity.FIRST_TOKEN, bucket, int(went.first_token * MICRO))
        if went.inter_token is not None:
            add(Quantity.INTER_TOKEN, bucket, int(went.inter_token * MICRO))
        if went.nanos is not None:
            add(Quantity.COST, bucket, went.nanos)
