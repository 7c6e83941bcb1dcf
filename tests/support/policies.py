"""Policies of a test: kinds that are attached to a gateway, and layers that say what happens to them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, WholeReply


class Ledger:
    """What layers opened and closed, by their ids."""

    def __init__(self) -> None:
        self.opened = Counter[str]()
        self.closed = Counter[str]()
        self.replied = Counter[str]()

    @property
    def even(self) -> bool:
        """Whether everything that was opened was closed, each once."""
        return self.opened == self.closed


@dataclass(frozen=True)
class Counting:
    """Opens something for each request, as a limit does."""

    id: str
    ledger: Ledger = field(compare=False)
    order: Order = Order.LIMITS
    reads: Reads = Reads.NOTHING

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Open, and go on."""
        self.ledger.opened[self.id] += 1
        ask.on_end(self._close)
        reply = await inner(ask)
        self.ledger.replied[self.id] += 1
        return reply

    def _close(self) -> None:
        self.ledger.closed[self.id] += 1


@dataclass(frozen=True)
class Redacting:
    """Takes a word out of whatever is asked, and refuses another one, as a guard does."""

    id: str
    ledger: Ledger = field(compare=False)
    order: Order = Order.GUARDS
    reads: Reads = Reads.DOCUMENT

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Rewrite the request, and go on."""
        self.ledger.opened[self.id] += 1
        ask.on_end(self._close)
        written = orjson.dumps(ask.request.document)
        if b"forbidden" in written:
            raise InvalidRequest("a guard blocks this request", code="content_filter")
        ask.request = ask.request.rewritten(orjson.loads(written.replace(b"my-secret", b"[REDACTED]")))
        reply = await inner(ask)
        self.ledger.replied[self.id] += 1
        return reply

    def _close(self) -> None:
        self.ledger.closed[self.id] += 1


@dataclass(frozen=True)
class Remembering:
    """Gives the same whole answer again, as a cache does."""

    id: str
    ledger: Ledger = field(compare=False)
    known: dict[bytes, WholeReply] = field(default_factory=dict, compare=False)
    order: Order = Order.CACHE
    reads: Reads = Reads.DOCUMENT

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Look up, or ask and store."""
        key = orjson.dumps(ask.request.document, option=orjson.OPT_SORT_KEYS)
        found = self.known.get(key)
        if found is not None:
            self.ledger.replied[self.id] += 1
            ask.answered_by = ask.model
            return found
        reply = await inner(ask)
        if isinstance(reply, WholeReply):
            self.known[key] = reply
        return reply


class Attached:
    """A kind of policy that is in force on the models that a test says, whatever the config holds."""

    def __init__(self, layer: Any, ledger: Ledger, on: Mapping[str, tuple[str, ...]]) -> None:
        self._layer = layer
        self._ledger = ledger
        self.on = dict(on)
        """The ids of the policies on each model, by its served name."""
        self.specs: dict[str, object] = {}
        """What each policy says; another object is another policy."""
        self.built = Counter[str]()

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, object]]:
        """Give the policies on a model."""
        return [(id, self.specs.get(id)) for id in self.on.get(entry.servedName, ())]

    def build(self, id: str, spec: object) -> Any:
        """Give a layer."""
        self.built[id] += 1
        return self._layer(id, self._ledger)
