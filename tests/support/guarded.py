"""Streams through the guards of a policy, without a gateway around them."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from capstan_contract.guards import ANSWERED, Action, Guard, OnError, RegexGuard, RegexPattern, Source, Stage
from capstan_gateway.errors import GatewayError
from capstan_gateway.guards.placeholders import Placeholders
from capstan_gateway.guards.port import Cost, Detector, Finding, Scan
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.lanes import Lane, Lanes
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.port import AskingGuard, Case
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision
from capstan_gateway.pipeline.guards.stage import Stage as Deciding
from capstan_gateway.pipeline.guards.streams import guards_of
from capstan_gateway.streaming.chain import Chain
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, StreamFilter
from support.asks import an_ask


@dataclass(frozen=True)
class Words:
    """A reference detector: finds words wherever they stand, each of its own kind."""

    words: tuple[str, ...]
    cost: Cost = Cost.CHEAP

    @property
    def reach(self) -> int:
        """As long as the longest one."""
        return max(map(len, self.words))

    def scan(self, text: str, source: Source) -> Scan:
        """Give every place of every word."""
        found = [
            Finding(f"W{number}", at, at + len(word))
            for number, word in enumerate(self.words)
            for at in range(len(text))
            if text.startswith(word, at)
        ]
        return Scan(sorted(found, key=lambda one: (one.start, one.end)))

    def safe_end(self, text: str) -> int:
        """Give where something begins that may become a word."""
        for at in range(max(0, len(text) - self.reach + 1), len(text)):
            if any(word.startswith(text[at:]) for word in self.words):
                return at
        return len(text)


@dataclass(frozen=True)
class Dear:
    """Finds words, and cannot say what is decided."""

    words: tuple[str, ...]
    cost: Cost = Cost.DEAR

    def scan(self, text: str, source: Source) -> Scan:
        """Give every place of every word."""
        return Words(self.words).scan(text, source)


@dataclass
class Asking:
    """Is asked about texts; finds the whole of those in which a word stands."""

    word: str
    seen: list[str] = field(default_factory=list)
    error: Exception | None = None

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Judge."""
        await asyncio.sleep(0)
        self.seen += [piece.text for piece in case.pieces]
        if self.error is not None:
            raise self.error
        return [
            Scan((Finding("whole", 0, len(piece.text)),)) if self.word in piece.text else Scan()
            for piece in case.pieces
        ]  # fmt: skip


def a_guard(
    detector: Detector | None = None, *, name: str = "g", action: Action = Action.BLOCK,
    asking: AskingGuard | None = None, on_error: OnError = OnError.CLOSED,
    sources: Iterable[Source] = ANSWERED, guard: Guard | None = None, seconds: float = 60.0,
    actions: dict[str, Action] | None = None,
) -> CompiledGuard:  # fmt: skip
    """Give a guard of an output."""
    found = guard or RegexGuard(
        name=name, action=action, onError=on_error, appliesTo=tuple(sources), timeoutMillis=int(1000 * seconds),
        patterns=(RegexPattern(name="p", pattern="x"),),
    )  # fmt: skip
    return CompiledGuard(
        cast(Any, found), Stage.OUTPUT, detector, asking, frozenset(found.appliesTo), actions or {}
    )  # fmt: skip


class Judged:
    """A `Judging` with nothing but guards; it remembers what was recorded."""

    def __init__(
        self, guards: Sequence[CompiledGuard], *, dialect: object = None, input_guards: Sequence[CompiledGuard] = ()
    ) -> None:
        self.policy = SimpleNamespace(output=tuple(guards), input=tuple(input_guards), enforces=True)
        self.ask = an_ask(document={"model": "m", "messages": [], "stream": True})
        object.__setattr__(self.ask.request, "route", SimpleNamespace(dialect=dialect, upstream_path=b"/x", path="/x"))
        self.redactor = Redactor()
        self.adds_logprobs = False
        self.waits: list[float] = []
        held = SimpleNamespace(at=lambda: SimpleNamespace(observe=self.waits.append))
        self.shared = SimpleNamespace(
            deps=SimpleNamespace(
                metrics=SimpleNamespace(guard_held=held), clock=lambda: 0.0, loop_time=lambda: 0.0
            ),
            lanes=Lanes(),
        )  # fmt: skip
        self.decisions: list[tuple[Decision, Sequence[Piece]]] = []

    async def decide(
        self, guards: Sequence[CompiledGuard], pieces: Sequence[Piece], *, redactor: Redactor, answer: Any = None
    ) -> Decision:
        """Have guards decide."""

        async def asked(one: CompiledGuard, own: Sequence[Piece]) -> Sequence[Scan]:
            assert one.asking is not None
            case = Case(stage=Stage.OUTPUT, ask=self.ask, pieces=own, answer=answer)
            return await one.asking.judge(case)

        stage = Deciding(guards, self.lane, asked, redactor.redacted, lambda: 60.0)
        return await stage.decide(pieces)

    @property
    def lane(self) -> Lane:
        """Give where detectors work."""
        return self.shared.lanes.of("")

    async def rewritten(self, redactor: Redactor, pieces: Sequence[Piece], decision: Decision) -> list[Piece]:
        """Give the pieces with what is to be redacted replaced."""
        return redactor.rewritten(pieces, decision.found)

    def record(self, decision: Decision, pieces: Sequence[Piece]) -> None:
        """Remember."""
        self.decisions.append((decision, pieces))


@dataclass
class Answer:
    """What a client has got of one stream."""

    chunks: list[Document] = field(default_factory=list)
    stopped: str | None = None
    """The finish reason by which a guard has ended it."""
    error: GatewayError | None = None
    most_held: int = 0

    def text(self, name: str = "content", choice: int = 0) -> str:
        """Give one text of a choice: `content`, `reasoning_content`, `refusal`, `text`."""
        found = ""
        for one in self._choices(choice):
            found += (one.get("text") if name == "text" else one.get("delta", {}).get(name)) or ""
        return found

    def arguments(self, call: int = 0, choice: int = 0) -> str:
        """Give the arguments of a call."""
        return "".join(
            piece["function"].get("arguments") or ""
            for one in self._choices(choice)
            for piece in one.get("delta", {}).get("tool_calls") or ()
            if piece["index"] == call
        )

    def finish(self, choice: int = 0) -> str | None:
        """Give why a choice has ended."""
        ends = [one["finish_reason"] for one in self._choices(choice) if one.get("finish_reason")]
        assert len(ends) <= 1
        return ends[0] if ends else self.stopped

    def _choices(self, choice: int) -> list[Document]:
        return [one for chunk in self.chunks for one in chunk["choices"] if one["index"] == choice]


async def through(
    filters: Sequence[StreamFilter], chunks: Iterable[Document | None], *, whole: bool = True
) -> Answer:  # fmt: skip
    """Send chunks through filters; None is a moment in which none came."""
    answer = Answer()

    async def wait(given: Chunks | Awaitable[Chunks]) -> Chunks:
        return await given if isinstance(given, Awaitable) else given

    chain = Chain(filters, wait)
    try:
        for chunk in chunks:
            answer.chunks += await chain.idle() if chunk is None else await chain.chunk(chunk)
            answer.most_held = max(answer.most_held, chain.held)
        if whole:
            answer.chunks += await chain.end()
            assert chain.held == 0
    except EndOfStream as end:
        answer.chunks += end.chunks
        answer.stopped = end.finish_reason
    except GatewayError as error:
        answer.error = error
    return answer


def guarded(
    guards: Sequence[CompiledGuard], chunks: Iterable[Document | None], *, placeholders: Placeholders | None = None,
    dialect: object = None, judged: Judged | None = None, whole: bool = True,
) -> Answer:  # fmt: skip
    """Send chunks through the guards of a policy."""
    judging = judged or Judged(guards, dialect=dialect)

    async def once() -> Answer:
        filters, _ = guards_of(cast(Judging, judging), placeholders or Placeholders({}))
        return await through(filters, chunks, whole=whole)

    try:
        return asyncio.run(once())
    finally:
        judging.shared.lanes.close()


def delta(choice: int = 0, finish: str | None = None, **fields: Any) -> Document:
    """Give a chunk with a delta."""
    piece = {"index": choice, "delta": fields, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [piece]}


def call(arguments: str, *, index: int = 0, choice: int = 0, name: str | None = None) -> Document:
    """Give a chunk with a piece of a call; `name` with its first one."""
    function: Document = {"arguments": arguments}
    head: Document = {"index": index}
    if name is not None:
        head |= {"id": f"call_{index}", "type": "function"}
        function["name"] = name
    return delta(choice, tool_calls=[{**head, "function": function}])
