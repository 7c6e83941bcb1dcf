"""One answer for several, which outlives each of those who wait for it."""

import asyncio

import pytest

from capstan_gateway.errors import GatewayError, Overloaded, UpstreamFailed, UpstreamTimeout
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.flight import Flight
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.watch import OVERTIME_SECONDS
from support.asks import an_ask
from support.virtualtime import run_virtually


class Model:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self.closed = 0
        self.goes_on: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def answer(self, ask: Ask) -> Reply:
        """Wait, then answer."""
        self.asked += 1
        ask.on_end(self._close)
        try:
            return await self.goes_on
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _close(self) -> None:
        self.closed += 1


def reply() -> Reply:
    """Give an answer in one piece."""
    return WholeReply(200, b"application/json", b"{}")


def a_client(expires_at: float | None = None) -> Ask:
    """Give the ask of a client."""
    ask = an_ask(expires_at=asyncio.get_running_loop().time() + 60 if expires_at is None else expires_at)
    ask.hold()
    return ask


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_ask_outlives_the_client_that_began_it() -> None:
    """Of two clients that wait for one answer the first may go: the second gets it, and the model is asked once."""
    background, model = Background(), Model()
    first, second = a_client(), a_client()
    flight = Flight(first.fork(), model.answer, background)
    waits = [asyncio.create_task(flight.join(one)) for one in (first, second)]
    await turns()
    waits[0].cancel()
    await turns()
    first.leave()
    assert (model.asked, model.cancelled, flight.joinable) == (1, 0, True)
    given = reply()
    model.goes_on.set_result(given)
    assert await waits[1] is given
    assert model.closed == 0
    second.leave()
    assert model.closed == 1
    assert not flight.joinable
    await background.close()


async def test_the_last_to_leave_stops_the_work() -> None:
    """When nobody waits any more the model's task is cancelled, and what was opened for it closed, once."""
    background, model = Background(), Model()
    clients = [a_client(), a_client(), a_client()]
    flight = Flight(clients[0].fork(), model.answer, background)
    waits = [asyncio.create_task(flight.join(one)) for one in clients]
    await turns()
    for wait, client in zip(waits, clients, strict=True):
        assert model.cancelled == 0
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        client.leave()
        await turns()
    assert (model.cancelled, model.closed, len(background), flight.joinable) == (1, 1, 0, False)


async def test_a_flight_that_is_left_before_it_began_ends() -> None:
    """The client may go in the very turn of the loop in which it asked."""
    background, model = Background(), Model()
    client = a_client()
    flight = Flight(client.fork(), model.answer, background)
    flight.ask.hold()
    flight.ask.leave()
    assert not flight.joinable
    await turns()
    assert (model.asked, flight.ask.ended, len(background)) == (0, True, 0)


async def test_work_in_the_background_holds_an_ask() -> None:
    """Who goes on behind the client holds the ask as long as it takes."""
    background, model = Background(), Model()
    client = a_client()
    flight = Flight(client.fork(), model.answer, background)
    flight.ask.hold()
    wait = asyncio.create_task(flight.join(client))
    await turns()
    wait.cancel()
    await turns()
    client.leave()
    assert model.cancelled == 0
    model.goes_on.set_result(reply())
    await turns()
    assert (model.closed, flight.ask.ended) == (0, False)
    flight.ask.leave()
    assert (model.closed, flight.ask.ended) == (1, True)


@pytest.mark.parametrize("failure", [UpstreamFailed("x"), ValueError("a bug"), TimeoutError("its own")])
async def test_everybody_hears_of_a_failure(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits gets the error, a timeout of the model's own as well; nothing is left open behind it."""
    background, model = Background(), Model()
    clients = [a_client(), a_client()]
    flight = Flight(clients[0].fork(), model.answer, background)
    waits = [asyncio.create_task(flight.join(one)) for one in clients]
    await turns()
    model.goes_on.set_exception(failure)
    assert await asyncio.gather(*waits, return_exceptions=True) == [failure, failure]
    for client in clients:
        client.leave()
    assert (model.closed, len(background)) == (1, 0)
    assert not caplog.records, "everything could be closed"


async def test_a_failure_that_nobody_waits_for_is_nobodys() -> None:
    """An answer that fails without joiners leaves no error behind, and ends."""
    background, model = Background(), Model()
    flight = Flight(a_client().fork(), model.answer, background)
    await turns()
    model.goes_on.set_exception(UpstreamFailed("x"))
    await turns()
    assert (model.closed, flight.ask.ended) == (1, True)


def test_a_flight_has_a_deadline() -> None:
    """Work that nobody watches is cut off when its time is up: a moment later, so that the model may say so itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        background, model = Background(), Model()
        began = loop.time()
        client = a_client(expires_at=began + 10)
        flight = Flight(client.fork(), model.answer, background)
        with pytest.raises(UpstreamTimeout, match=r"^the model did not finish its answer in time$"):
            await flight.join(client)
        assert loop.time() - began == 10 + OVERTIME_SECONDS
        client.leave()
        assert (model.cancelled, model.closed) == (1, 1)

    run_virtually(main())


async def test_the_end_of_the_process_ends_the_work() -> None:
    """At shutdown whoever waits is told, and nothing new begins."""
    background, model = Background(), Model()
    client = a_client()
    flight = Flight(client.fork(), model.answer, background)
    wait = asyncio.create_task(flight.join(client))
    await turns()
    await background.close()
    with pytest.raises(GatewayError, match="shutting down"):
        await wait
    client.leave()
    assert (model.cancelled, model.closed) == (1, 1)
    with pytest.raises(Overloaded):
        Flight(a_client().fork(), model.answer, background)


async def test_work_in_the_background_is_bounded() -> None:
    """One too many is refused, and takes nothing from the others."""
    background, model = Background(limit=1), Model()
    client = a_client()
    flight = Flight(client.fork(), model.answer, background)
    with pytest.raises(Overloaded):
        Flight(client.fork(), model.answer, background)
    model.goes_on.set_result(reply())
    assert await flight.join(client)
    client.leave()
    assert len(background) == 0
