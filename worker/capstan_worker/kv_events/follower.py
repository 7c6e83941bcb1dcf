"""Batches of events in their order: what was missed, what came twice, an engine that has begun anew. No I/O.

vLLM numbers its batches from 0. A number that is skipped is a gap; whoever can asks vLLM for what was missed before the
next batch is taken. What nobody can tell any more leaves only one thing to be sure of: nothing. The table is cleared,
and what is stored from then on is told.
"""

import logging
from typing import Final

from capstan_worker.kv_events.table import BlockTable
from capstan_worker.kv_events.wire import MalformedEvents, read_batch

log = logging.getLogger(__name__)
_SEQUENCE_BYTES: Final = 8


class Follower:
    """Takes over batches into one table."""

    def __init__(self, table: BlockTable) -> None:
        self._table = table
        self.next = 0
        """The number of the batch that is to come."""
        self._newest = -1
        """The number of the newest batch that was published while we listened."""
        self.events = 0
        self.malformed = 0
        self.gaps = 0
        """How often batches were missed, whatever became of it."""
        self.lost = 0
        """How often what was missed could not be had."""

    def begin_anew(self) -> None:
        """The engine has begun anew, or who publishes is another one: nothing is known."""
        self._table.clear()
        self.next, self._newest = 0, -1

    def hears(self, sequence: int) -> bool:
        """Say whether batches were missed before this one, which was published just now.

        Numbers only grow while one engine publishes, so one that does not is the first of another engine.
        """
        if sequence <= self._newest:
            self.begin_anew()
        self._newest = sequence
        if sequence <= self.next:
            return False
        self.gaps += 1
        return True

    def take(self, sequence: int, payload: bytes) -> None:
        """Take over a batch, published just now or told again. One that was taken before is nothing."""
        if sequence < self.next:
            return
        if sequence > self.next:
            self.lost += 1
            self._table.clear()
        self.next = sequence + 1
        try:
            events = read_batch(payload)
            self.events += len(events)
            self._table.apply(events)
        except MalformedEvents as error:
            self.misunderstood(str(error))
            # It may have said that blocks are gone.
            self._table.clear()

    def misunderstood(self, why: str) -> None:
        """Count what is no batch. The first is logged, because of a release that speaks another way all are."""
        self.malformed += 1
        if self.malformed == 1:
            log.warning("events of the KV cache were not understood", extra={"reason": why})

    def render(self) -> str:
        """Give the metrics in Prometheus' text format."""
        counters = (
            ("events", "Events of the engine's KV cache that were read.", self.events),
            ("events_malformed", "Messages of the engine that were no events.", self.malformed),
            ("event_gaps", "How often events were missed.", self.gaps),
            ("event_gaps_lost", "How often what was missed could not be had, and all was begun anew.", self.lost),
            ("blocks_untold", "Blocks that have no name, such as those behind pictures.", self._table.untold),
        )
        return "".join(
            f"# HELP capstan_worker_kv_{name}_total {text}\n"
            f"# TYPE capstan_worker_kv_{name}_total counter\n"
            f"capstan_worker_kv_{name}_total {value}\n"
            for name, text, value in counters
        )


def read_sequence(frame: bytes) -> int | None:
    """Read the number of a batch; None where it is none. -1 ends what is told again."""
    return int.from_bytes(frame, "big", signed=True) if len(frame) == _SEQUENCE_BYTES else None


def write_sequence(sequence: int) -> bytes:
    """Write the number of the first batch that is to be told again."""
    return sequence.to_bytes(_SEQUENCE_BYTES, "big")
