"""A gateway's side of the queue, as small as a test of workers needs it: it asks and reads answers."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import redis

from capstan_contract.queue.calls import Bounds, Call, Failure, Kind, Queue, read_piece, read_placed, read_state
from capstan_contract.queue.names import PriorityClass, out_key, queue_prefix
from capstan_contract.queue.wire import AnswerHead, Ask, Packing, read_answer_head
from support.wait import eventually

WIDE = Bounds(entries=100_000, data=1 << 30, wait_ms=3_600_000)


@dataclass
class Answer:
    """What has come of one entry."""

    head: AnswerHead | None = None
    body: bytes = b""
    ends: list[str] = field(default_factory=list)
    """`end`, or the words of failures: one of them in the end, and never more."""
    pieces: int = 0
    attempts: set[int] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return bool(self.ends)


class QueueGateway:
    """Asks a model's workers. It reads only when it is told to."""

    def __init__(
        self, client: "redis.Redis", model: str = "default/chat", *, name: str = "g1", packing: Packing | None = None
    ) -> None:
        self.client = client
        self.calls = Queue(queue_prefix(model))
        self.name = name
        self.answers: dict[str, Answer] = {}
        self.finished: list[str] = []
        """Ids, in the order in which their answers ended."""
        self._packing = packing or Packing()
        self._after = "-"
        self._numbers = itertools.count(1)

    def run(self, call: Call) -> Any:
        """Run a script."""
        return self.client.eval(call.script, len(call.keys), *call.keys, *call.arguments)

    def ask(
        self, document: object = None, *, path: str = "/v1/chat/completions", headers: Iterable[tuple[str, str]] = (),
        priority: PriorityClass = PriorityClass.DEFAULT, tenant: str = "a", tokens: int = 10, ttl_ms: int = 600_000,
        body: bytes | None = None, ask: bytes | None = None, entry_id: str = "",
        once: bool = False,
    ) -> str:  # fmt: skip
        """Put a request in; give its id."""
        entry_id = entry_id or f"e{next(self._numbers)}"
        raw = json.dumps(document or {}).encode() if body is None else body
        call = self.calls.enqueue(
            entry_id, priority=priority, tenant=tenant, weight=1.0, tokens=tokens, ttl_ms=ttl_ms, gateway=self.name,
            ask=Ask(path, tuple(headers)).write() if ask is None else ask,
            body=self._packing.pack(entry_id, "b", raw), bounds=WIDE, once=once,
        )  # fmt: skip
        assert read_placed(self.run(call)).accepted
        self.answers.setdefault(entry_id, Answer())
        return entry_id

    def chat(self, text: str = "hello", *, stream: bool = True, model: str = "sim", **options: Any) -> str:
        """Ask for a chat."""
        asked = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        return self.ask({**asked, **options.pop("more", {})}, **options)

    def read(self, *, acknowledge: bool = True) -> None:
        """Take in what was posted since the last look; unless told otherwise, say that it was passed on."""
        start = self._after if self._after == "-" else f"({self._after}"
        passed: dict[str, int] = {}
        for place, fields in self.client.xrange(out_key(self.calls.prefix, self.name), start, "+"):
            self._after = place.decode()
            piece = read_piece([part for pair in fields.items() for part in pair])
            answer = self.answers.setdefault(piece.id, Answer())
            assert not answer.done, f"{piece.id} goes on after {answer.ends}: {piece.kind}"
            answer.pieces += 1
            answer.attempts.add(piece.attempt)
            match piece.kind:
                case Kind.HEAD:
                    assert answer.head is None
                    answer.head = read_answer_head(self._packing.unpack(piece.id, "h", piece.data))
                case Kind.DATA:
                    answer.body += self._packing.unpack(piece.id, "d", piece.data)
                    passed[piece.id] = passed.get(piece.id, 0) + len(piece.data)
                case Kind.END:
                    answer.ends.append("end")
                    self.finished.append(piece.id)
                case Kind.FAILURE:
                    answer.ends.append(Failure(piece.data.decode()).value)
        if passed and acknowledge:
            self.run(self.calls.acknowledge(passed.items()))

    def cancel(self, *ids: str) -> None:
        """Nobody wants these any more."""
        self.run(self.calls.cancel(ids))

    def state(self) -> Any:
        """Say that it is there; give how the queue stands."""
        return read_state(self.run(self.calls.beat(self.name)))

    def left(self) -> int:
        """Count entries that are in Redis."""
        return len(list(self.client.scan_iter(f"{self.calls.prefix}entry:*")))

    async def done(self, *ids: str, seconds: float = 60) -> list[Answer]:
        """Wait until these are answered."""
        return await eventually(lambda: self._all_done(ids), seconds=seconds, every=0.01, what=f"the end of {ids}")

    async def begun(self, entry_id: str) -> Answer:
        """Wait for the first of an answer's body."""

        def first() -> Answer | None:
            self.read()
            return self.answers[entry_id] if self.answers[entry_id].body else None

        return await eventually(first, every=0.01, what=f"the beginning of {entry_id}")

    def _all_done(self, ids: Iterable[str]) -> list[Answer] | None:
        self.read()
        self.state()
        found = [self.answers[one] for one in ids]
        return found if all(one.done for one in found) else None
