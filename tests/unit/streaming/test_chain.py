"""Several filters of one stream: what each of them sees of what the others give, and who ends it."""

from collections.abc import Awaitable
from typing import Any

import pytest

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.chain import Chain
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream


class Step:
    """Adds its name to what goes through, keeps what it is told to keep, and ends or fails where it is told to."""

    def __init__(
        self, name: str, *, keeps: int = 0, ends: str = "", at: int = 1, last: str = "", later: bool = False
    ) -> None:
        self.name, self.keeps, self.ends, self.at, self.last, self.later = name, keeps, ends, at, last, later
        self.kept: list[Document] = []
        self.seen: list[str] = []

    @property
    def held(self) -> int:
        """How many chunks it keeps."""
        return len(self.kept)

    def _given(self, what: str, chunks: list[Document]) -> Any:
        self.seen.append(what)
        if what == self.ends or (what.startswith("chunk") and self.ends == "chunk" and len(self.seen) == self.at):
            raise EndOfStream(f"{self.name} ends", [{"said": f"last of {self.name}"}] if self.last else ())
        return chunks if not self.later else self._soon(chunks)

    async def _soon(self, chunks: list[Document]) -> Chunks:
        return chunks

    def chunk(self, chunk: Document) -> Chunks | Awaitable[Chunks]:
        """Keep the first ones."""
        self.kept.append({"said": f"{chunk['said']}>{self.name}"})
        out, self.kept = (self.kept[: -self.keeps or None], self.kept[-self.keeps :] if self.keeps else [])
        given: Chunks | Awaitable[Chunks] = self._given(f"chunk {chunk['said']}", out)
        return given

    def idle(self) -> Chunks | Awaitable[Chunks]:
        """Give something of its own."""
        given: Chunks | Awaitable[Chunks] = self._given("idle", [{"said": f"idle {self.name}"}])
        return given

    def end(self) -> Chunks | Awaitable[Chunks]:
        """Give what is kept."""
        out, self.kept = self.kept, []
        given: Chunks | Awaitable[Chunks] = self._given("end", out)
        return given


async def wait(given: Any) -> Any:
    """Wait where there is something to wait for."""
    return await given if hasattr(given, "__await__") else given


def said(chunks: Chunks) -> list[str]:
    """Give what the chunks say."""
    return [chunk["said"] for chunk in chunks]


@pytest.mark.parametrize("later", [False, True])
async def test_a_chunk_goes_through_all_filters_in_their_order(later: bool) -> None:
    """What is kept is held until more comes, or the stream is whole: then each filter ends behind those in front."""
    steps = [Step("a", keeps=1, later=later), Step("b"), Step("c", keeps=1)]
    chain = Chain(steps, wait)
    assert said(await chain.chunk({"said": "1"})) == []
    assert said(await chain.chunk({"said": "2"})) == []
    assert chain.held == 2
    assert said(await chain.chunk({"said": "3"})) == ["1>a>b>c"]
    assert said(await chain.end()) == ["2>a>b>c", "3>a>b>c"]
    assert chain.held == 0
    assert [step.seen[-1] for step in steps] == ["end"] * 3
    assert said(await Chain([], wait).chunk({"said": "1"})) == ["1"]
    assert said(await Chain([], wait).end()) == []


async def test_what_a_filter_gives_while_nothing_comes_goes_through_those_behind_it() -> None:
    """Each is asked, the first one first."""
    assert said(await Chain([Step("a"), Step("b"), Step("c")], wait).idle()) == ["idle a>b>c", "idle b>c", "idle c"]


@pytest.mark.parametrize("last", ["", "x"])
async def test_a_filter_ends_the_stream_for_those_behind_it(last: str) -> None:
    """What it gave before and with its end goes through them, and for them the stream is whole then."""
    steps = [Step("a"), Step("b", ends="chunk", last=last), Step("c", keeps=1)]
    with pytest.raises(EndOfStream) as end:
        await Chain(steps, wait).chunk({"said": "1"})
    assert end.value.finish_reason == "b ends"
    assert said(end.value.chunks) == (["last of b>c"] if last else [])
    assert (steps[0].seen, steps[2].seen[-1]) == (["chunk 1"], "end")


async def test_what_came_before_an_end_is_not_lost() -> None:
    """Chunks that a filter has passed before it ends, of those that came at once, and what is kept behind it."""
    steps = [Step("a", keeps=2), Step("b", ends="chunk", at=2, last="x"), Step("c", keeps=9)]
    chain = Chain(steps, wait)
    for number in range(2):
        assert said(await chain.chunk({"said": str(number)})) == []
    with pytest.raises(EndOfStream) as end:
        await chain.end()
    assert said(end.value.chunks) == ["0>a>b>c", "last of b>c"]
    assert end.value.finish_reason == "b ends"


@pytest.mark.parametrize("event", ["idle", "end"])
async def test_an_end_at_such_a_moment_keeps_what_others_gave_first(event: str) -> None:
    """Those in front were asked already, those behind are not asked again but told that it is whole."""
    steps = [Step("a"), Step("b", ends=event, last="x"), Step("c", keeps=1)]
    with pytest.raises(EndOfStream) as end:
        await (Chain(steps, wait).idle() if event == "idle" else Chain(steps, wait).end())
    first = ["idle a>b>c"] if event == "idle" else []
    assert (end.value.finish_reason, said(end.value.chunks)) == ("b ends", [*first, "last of b>c"])
    assert [one for one in steps[2].seen if not one.startswith("chunk")] == ["end"]


async def test_the_last_filter_that_ends_has_the_word() -> None:
    """One behind that ends a stream which is whole for it says why in the end; what came out before it stays."""
    steps = [Step("a", ends="chunk", last="x"), Step("b", ends="end", last="y"), Step("c")]
    with pytest.raises(EndOfStream) as end:
        await Chain(steps, wait).chunk({"said": "1"})
    assert end.value.finish_reason == "b ends"
    assert said(end.value.chunks) == ["last of a>b>c", "last of b>c"]


async def test_a_filter_that_fails_ends_it_badly() -> None:
    """Its error is raised as it is."""

    def fails(*_: object) -> Chunks:
        raise GatewayError("no")

    step = Step("a")
    vars(step).update(chunk=fails, idle=fails, end=fails)
    chain = Chain([step], wait)
    for answer in (chain.chunk({"said": "1"}), chain.idle(), chain.end()):
        with pytest.raises(GatewayError, match=r"^no$"):
            await answer
