"""What was paid for is not paid for again: asks with a memory, which is the file of the run.

An answer is written before it is given. Asks that are equal, the name of the model and the number of the repeat
included, are asked once, be it at the same time or after a crash; only an error that says nothing of what was asked is
tried again when a run is gone on with.
"""

import asyncio
import base64
import sys
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from capstan_evaluation.asking import Vectors, request_hash
from capstan_evaluation.records import Answer, Asked, Asking, Purpose
from capstan_evaluation.runs.budget import Reservation
from capstan_evaluation.runs.files import RunWriter

_Key = tuple[Purpose, str, str, int]
_OnTry = Callable[[Reservation], None]
_Floats = tuple[tuple[float, ...], ...]


class Asker(Protocol):
    """One model, as `client.Model` is one."""

    name: str

    @property
    def bounded(self) -> bool:
        """Whether spend is."""

    async def chat(self, document: Mapping[str, Any], *, on_try: _OnTry) -> Answer:
        """Ask once, and tell of each try before it begins."""

    async def embed(self, texts: Sequence[str], *, on_try: _OnTry) -> tuple[Answer, _Floats]:
        """Ask for the vectors of texts."""


class Ledger:
    """The asks of one run."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._paid = {_key(one): one for one in writer.log.asked if not one.answer.transient}
        self._open: dict[_Key, asyncio.Future[Asked]] = {}

    async def once(self, key: _Key, ask: Callable[[_OnTry], Awaitable[tuple[Answer, _Floats]]], keep: bool) -> Asked:
        """Give what is known of an ask, or ask. Of asks that are under way, wait for the answer.

        `keep`: to write down each try before it begins. Raises what `ask` raises, to all who wait.
        """
        if (known := self._paid.get(key)) is not None:
            return known
        if (other := self._open.get(key)) is not None:
            return await asyncio.shield(other)
        self._open[key] = future = asyncio.get_running_loop().create_future()
        try:
            asked = await self._ask(key, ask, keep)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # whoever waits is told; nobody has to
            raise
        else:
            future.set_result(asked)
            return asked
        finally:
            del self._open[key]

    async def _ask(self, key: _Key, ask: Callable[[_OnTry], Awaitable[tuple[Answer, _Floats]]], keep: bool) -> Asked:
        purpose, model, request, repeat = key
        tries = 0

        def on_try(reservation: Reservation) -> None:
            nonlocal tries
            tries += 1
            if keep:
                self._writer.asking(
                    Asking(
                        purpose=purpose,
                        model=model,
                        request=request,
                        repeat=repeat,
                        tokens=reservation.tokens,
                        cost=reservation.nano / 1e9,
                    )
                )

        answer, vectors = await ask(on_try)
        asked = Asked(
            purpose=purpose,
            model=model,
            request=request,
            repeat=repeat,
            tries=max(1, tries),
            answer=answer,
            vectors=tuple(_packed(vector) for vector in vectors),
        )
        self._writer.asked(asked)
        # NB: an error that says nothing is not asked again within one process: it was tried often enough.
        self._paid[key] = asked
        return asked


class PaidChat:
    """A `Chat` that asks each ask once."""

    def __init__(self, ledger: Ledger, model: Asker, purpose: Purpose) -> None:
        self._ledger = ledger
        self._model = model
        self._purpose = purpose

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:
        """Ask, or give what was answered before. Raises BudgetSpent."""

        async def ask(on_try: _OnTry) -> tuple[Answer, _Floats]:
            return await self._model.chat(document, on_try=on_try), ()

        key = self._purpose, self._model.name, request_hash(document), repeat
        return (await self._ledger.once(key, ask, self._model.bounded)).answer


class PaidEmbedder:
    """An `Embedder` that asks each ask once."""

    def __init__(self, ledger: Ledger, model: Asker) -> None:
        self._ledger = ledger
        self._model = model

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Ask, or give what was answered before. Raises BudgetSpent."""

        async def ask(on_try: _OnTry) -> tuple[Answer, _Floats]:
            return await self._model.embed(texts, on_try=on_try)

        key = Purpose.EMBED, self._model.name, request_hash(list(texts)), 0
        asked = await self._ledger.once(key, ask, self._model.bounded)
        # NB: read from what is kept, so that a run that is gone on with scores with the same numbers.
        vectors = tuple(_unpacked(vector) for vector in asked.vectors)
        return Vectors(vectors=vectors, usage=asked.answer.usage, error=asked.answer.error)


def _key(asked: Asked) -> _Key:
    return asked.purpose, asked.model, asked.request, asked.repeat


def _packed(vector: Sequence[float]) -> str:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


def _unpacked(text: str) -> tuple[float, ...]:
    floats = array("f", base64.b64decode(text))
    if sys.byteorder == "big":
        floats.byteswap()
    return tuple(floats)
