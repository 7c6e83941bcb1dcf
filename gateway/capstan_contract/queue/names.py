"""Keys, classes and bounds of the queue."""

from enum import IntEnum
from hashlib import blake2b
from typing import Final

QUEUE_VERSION: Final = 1
"""In every key: two releases that do not understand each other do not meet."""
GROUP: Final = "workers"
"""The consumer group of every stream of work."""


class PriorityClass(IntEnum):
    """How urgent an entry is; lower numbers go first, and one in PASSED_OVER of the next class between them."""

    HIGH = 0
    DEFAULT = 1
    LOW = 2
    BATCH = 3


PASSED_OVER: Final = 8
"""So many entries of more urgent classes at most are taken before one of a class that waits."""
BATCH_TURN_MS: Final = 30_000
"""How long class BATCH waits, since it began to or since one of it was taken, until one of it is taken by the next
worker that has any room, though it is none to spare."""
MOST_TENANTS: Final = 1_000
"""Of one class. With more of them those are forgotten of whom nothing waits, a few with each that is new; with ten
times as many all are."""
LEASE_MS: Final = 10_000
"""An entry whose worker has not said for so long that it works on it is another worker's."""
RENEW_SECONDS: Final = 2.0
"""How often workers and gateways say that they are there."""
ALIVE_MS: Final = 15_000
"""A gateway that has not said so for so long is gone, and what it has asked for is dropped."""
QUIET_MS: Final = 5_000
"""Where no gateway and no worker was heard of for so long, Redis was away, or its clock was set: nobody is taken for
gone before everybody has had the time of a lease to say that it is there."""
SILENT_MS: Final = 5_000
"""What a gateway has asked for that has said nothing for so long is begun by nobody before it does: it may have given
up waiting, and have sent it elsewhere. No more than gateways wait for a Redis that is away before they do that."""
WINDOW_BYTES: Final = 1 << 20
"""Of one answer that its gateway has not passed on yet; a worker that has more waits, as the reader is slow."""
MOST_CRASHES: Final = 2
"""An entry that has been with so many engines or workers when they died is answered with an error."""
MOST_GAP_MS: Final = 120_000
"""A longer time between two entries that are taken counts as so much: then it is no worker's pace."""
MOST_MEAN_AGE_MS: Final = 600_000
"""What was measured of the pace longer ago refuses nobody any more."""
MOST_BELLS: Final = 128
MOST_TOLD: Final = 10_000
MOST_OUT: Final = 100_000
"""Pieces of answers that wait for one gateway; workers wait with more. With WINDOW_BYTES the bound of what a dead one
leaves."""
KEPT_MS: Final = 24 * 3600 * 1000
"""How long keys of a queue stay that nobody uses."""


def queue_prefix(model_id: str) -> str:
    """Give what all keys of a model's queue begin with. Its hash tag keeps them in one slot of a Redis Cluster."""
    tag = blake2b(model_id.encode(), digest_size=10).hexdigest()
    return f"capstan:queue:{QUEUE_VERSION}:{{{tag}}}:"


def slot_key(prefix: str) -> str:
    """Give the key that every script is given, which says where it runs."""
    return f"{prefix}stats"


def bell_key(prefix: str) -> str:
    """Give the list on which workers wait for work."""
    return f"{prefix}bell"


def told_key(prefix: str, worker: str) -> str:
    """Give the list on which a worker hears of entries that it has: those that nobody wants any more, and those whose
    reader goes on."""
    return f"{prefix}told:{worker}"


def out_key(prefix: str, gateway: str) -> str:
    """Give the stream of a gateway's answers."""
    return f"{prefix}out:{gateway}"
