"""The blocks of prompts: who makes them, how often, and what a request waits for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.kv_events import Head, block_names, root_name
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline import prompt_blocks
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.beside import LARGE_BYTES
from capstan_gateway.pipeline.prompt_blocks import (
    AT_ONCE,
    MOST_AT_WORK,
    MOST_BYTES,
    MOST_LARGE,
    MOST_LATE,
    MOST_LATE_MODELS,
    MOST_THREADS,
    SMALL_TOKENS,
    Prompts,
)
from capstan_gateway.routing.affinity import BLOCK_CHARS, FORKS, SharedHeads
from capstan_gateway.routing.held_blocks import HeldBlocks, PromptBlocks
from capstan_gateway.tokens.kept import KeptTokens, packed
from capstan_gateway.upstream.errors import ConnectFailed
from support.wait import PATIENCE, eventually

TOKENS = list(range(40))
COMPLETIONS = b"/completions"
CHAT = b"/chat/completions"
SIZE = 1000


class Counter:
    """A tokenizer: a token for each character of the last message, once it may."""

    kind = "file"
    version = "v"

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.made: list[Any] = []
        self.knows = True

    def tokens(self, document: Mapping[str, Any]) -> list[int] | None:
        """See PromptCounter."""
        self.may.wait()
        self.made.append(document)
        return [ord(letter) for letter in said(document)] if self.knows else None


def said(document: Mapping[str, Any]) -> str:
    """All that a chat says."""
    return "".join(message["content"] for message in document["messages"])


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    """A chat of these messages."""
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], **more}


Engine = Callable[..., Awaitable[Any]]


async def silent(*_: Any) -> None:
    """An engine that tells no tokens."""


async def late(*_: Any) -> None:
    """An engine that does not answer."""
    await asyncio.sleep(60)


class World:
    """One model with two endpoints that tell, and who makes tokens for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 10.0) -> None:
        self.counter: Counter | None = Counter()
        self.engine: Engine = silent
        self.asked = 0
        self.held = HeldBlocks()
        self.held.begin("a", Head(4, 0))
        self.absent = False
        heads = SharedHeads()
        endpoints = SimpleNamespace(held=self.held, heads=heads, states=(1, 2), lacks=lambda *_: self.absent)
        self.model: Any = SimpleNamespace(id="t/m", upstream_name="m", adapter="", endpoints=endpoints, isolates=False)
        self.deps: Any = SimpleNamespace(counters=SimpleNamespace(of=lambda _: self.counter), background=Background())
        self.prompts = Prompts(lambda: self.deps, asyncio.get_running_loop().time, seconds=seconds)

        async def ask_engine(*_: Any) -> Any:
            self.asked += 1
            return await self.engine()

        monkeypatch.setattr(prompt_blocks, "tokens_by_engine", ask_engine)

    def ask(self, document: dict[str, Any], *, path: bytes = CHAT, tenant: str = "a") -> Any:
        """What is asked."""
        request = SimpleNamespace(document=document, raw=b"", route=SimpleNamespace(upstream_path=path))
        principal = Principal(tenant=tenant)
        return SimpleNamespace(request=request, session="", note_counting=lambda _: None, principal=principal)

    async def blocks(
        self, document: dict[str, Any], *, path: bytes = CHAT, size: int = SIZE, salt: str = "", tenant: str = "a"
    ) -> PromptBlocks | None:
        """Give the blocks of a prompt."""
        ask = self.ask(document, path=path, tenant=tenant)
        return await self.prompts.blocks_of(ask, self.model, size=size, salt=salt)

    @property
    def by(self) -> tuple[int, int, int]:
        """How many prompts were known, known in part, and not known."""
        return self.held.exact, self.held.beginnings, self.held.estimated


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """One whose requests wait as long as it takes."""
    made = World(monkeypatch)
    yield made
    made.prompts.close()


def names(text: str, *, salt: str = "", adapter: str = "", size: int = 4) -> dict[int, list[int]]:
    """The names of a prompt's blocks."""
    return {size: block_names([ord(letter) for letter in text], size, before=root_name(salt=salt, adapter=adapter))}


async def test_a_prompt_is_named_as_engines_name_it(world: World) -> None:
    """By its tokens, the salt that goes with it, and the adapter that computes it."""
    plain, salted = await world.blocks(chat("hello", "world")), await world.blocks(chat("hello", "world"), salt="s")
    assert (plain, salted) == (
        PromptBlocks(10, names("helloworld")), PromptBlocks(10, names("helloworld", salt="s"))
    )  # fmt: skip
    world.model.adapter = "lora"
    assert await world.blocks(chat("hello")) == PromptBlocks(5, names("hello", adapter="lora"))
    assert world.by == (3, 0, 0)


async def test_a_prompt_is_made_into_tokens_once(world: World) -> None:
    """Also for those who ask at once, for limits that had it counted, and with another salt."""
    counter = world.counter
    assert counter is not None
    counter.may.clear()
    equal = [asyncio.ensure_future(world.blocks(chat("hello"), salt=salt)) for salt in "aab"]
    await asyncio.sleep(0)
    counter.may.set()
    await asyncio.gather(*equal)
    assert await world.prompts.made_here(world.ask(chat("other")), world.model, counter) == packed(map(ord, "other"))
    assert await world.blocks(chat("other", temperature=1)) == PromptBlocks(5, names("other"))
    assert (len(counter.made), world.asked) == (2, 0)


async def test_nobody_has_to_ask_for_tokens_to_be_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that is idle keeps no prompts."""
    monkeypatch.setattr(prompt_blocks, "FORGET_SECONDS", 0.01)
    world.prompts._kept = KeptTokens(asyncio.get_running_loop().time, seconds=0.02)
    await world.blocks(chat("hello"))
    running = asyncio.create_task(world.prompts.run())
    await eventually(lambda: not len(world.prompts._kept), every=0.01, what="no tokens")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("isolates", "times"), [(False, 1), (True, 2)])
async def test_no_tenant_finds_out_what_another_one_has_asked(world: World, isolates: bool, times: int) -> None:
    """By how soon a prompt is known: of a model that keeps tenants apart each has it made for itself, also of those who
    ask together, and a beginning of one is none of another's."""
    counter = world.counter
    assert counter is not None
    world.model.isolates = isolates
    counter.may.clear()
    both = [asyncio.ensure_future(world.blocks(chat("hello"), tenant=tenant)) for tenant in "ab"]
    await asyncio.sleep(0)
    counter.may.set()
    assert await asyncio.gather(*both) == [PromptBlocks(5, names("hello"))] * 2
    await world.blocks(chat("hello"), tenant="a")
    assert len(counter.made) == times
    counter.knows = False
    await world.blocks(chat("hello", "more"), tenant="c")
    assert world.by == ((3, 0, 1) if isolates else (3, 1, 0))


async def test_the_engine_is_asked_where_no_tokenizer_tells(world: World) -> None:
    """One that is not here, or that does not know this prompt; what limits have asked it for is not asked again."""

    async def tells() -> Any:
        return packed(TOKENS)

    world.engine = tells
    assert world.counter is not None
    world.counter.knows = False
    expected = PromptBlocks(40, {4: block_names(TOKENS, 4, before=root_name())})
    assert await world.blocks(chat("one")) == expected
    world.counter = None
    assert list(await world.prompts.ask_engine(world.ask(chat("two")), world.model) or ()) == TOKENS
    assert await world.blocks(chat("two")) == expected
    assert (world.asked, world.by) == (2, (2, 0, 0))


async def test_tokens_that_are_late_are_there_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes by what is known of an earlier turn, or by the estimate; its tokens are kept all the same."""
    world = World(monkeypatch, seconds=0.05)
    counter = world.counter
    assert counter is not None
    counter.may.clear()
    assert await world.blocks(chat("hello ")) is None
    counter.may.set()
    await eventually(lambda: counter.made, every=0.01, what="tokens")
    await eventually(lambda: len(world.prompts._kept), every=0.01, what="kept tokens")
    counter.may.clear()
    assert await world.blocks(chat("hello ", "world"), size=100) == PromptBlocks(25, names("hello "))
    assert world.by == (0, 1, 1)
    counter.may.set()


async def fails(*_: Any) -> None:
    """An engine that is not there."""
    raise ConnectFailed("e", "no")


@pytest.mark.parametrize("fault", [silent, fails, late])
async def test_an_engine_that_does_not_tell_is_left_alone(monkeypatch: pytest.MonkeyPatch, fault: Engine) -> None:
    """For a while: it costs one request a moment, and the next ones nothing."""
    world = World(monkeypatch, seconds=0.02)
    monkeypatch.setattr(prompt_blocks, "LATE_SECONDS", 0.04)
    world.counter, world.engine = None, fault
    for number in range(3):
        assert await world.blocks(chat(f"hello{number}")) is None
        await eventually(lambda: not world.prompts._flights, every=0.01, what="its answer")
    assert (world.asked, world.by) == (1, (0, 0, 3))


async def test_an_engine_may_be_late_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so often in a row; what it tells then is known for the next turn."""
    world = World(monkeypatch, seconds=0.02)
    may = asyncio.Event()

    async def tells() -> Any:
        await may.wait()
        return packed(TOKENS)

    world.counter, world.engine = None, tells
    for number in range(MOST_LATE + 2):
        may.clear()
        assert await world.blocks(chat(f"hello{number}")) is None
        may.set()
        await eventually(lambda: not world.prompts._flights, every=0.01, what="its answer")
        again = await world.blocks(chat(f"hello{number}"))
        assert (again is not None) == (number < MOST_LATE)
    assert world.asked == MOST_LATE


async def test_few_questions_to_engines_are_under_way_together(world: World) -> None:
    """The next prompt goes by the estimate; when they are answered it is asked for again."""
    may = asyncio.Event()

    async def tells() -> Any:
        await may.wait()
        return packed(TOKENS)

    world.counter, world.engine = None, tells
    crowd = [asyncio.ensure_future(world.blocks(chat(f"hello{number}"))) for number in range(AT_ONCE)]
    await eventually(lambda: world.asked == AT_ONCE, every=0.01, what="questions")
    more = asyncio.ensure_future(world.blocks(chat("one more")))
    await eventually(lambda: more.done() or world.asked > AT_ONCE, every=0.01, what="its end")
    may.set()
    assert (None in await asyncio.gather(*crowd), await more, world.asked) == (False, None, AT_ONCE)
    assert await world.blocks(chat("one more")) is not None


async def test_models_whose_engines_are_late_are_remembered_within_a_bound(world: World) -> None:
    """Those that were late longest ago are asked again."""
    world.counter = None
    for number in range(MOST_LATE_MODELS + 1):
        world.model.id = f"t/{number}"
        assert await world.blocks(chat("hello")) is None
    assert len(world.prompts._late) == MOST_LATE_MODELS
    assert "t/0" not in world.prompts._late


async def test_an_engine_without_the_route_is_not_asked(world: World) -> None:
    """That was found out by whoever asked it before."""
    world.counter, world.absent = None, True
    assert (await world.blocks(chat("hello")), world.asked) == (None, 0)


async def test_nobody_waits_behind_a_crowd(world: World) -> None:
    """A prompt that would wait in vain goes by the estimate at once; equal ones wait together."""
    counter = world.counter
    assert counter is not None
    counter.may.clear()
    crowd = [asyncio.ensure_future(world.blocks(chat(f"hello{number}"))) for number in range(MOST_AT_WORK)]
    await eventually(lambda: len(world.prompts._flights) == MOST_AT_WORK, every=0.01, what="a crowd")
    assert await world.blocks(chat("one more")) is None
    equal = asyncio.ensure_future(world.blocks(chat("hello0")))
    counter.may.set()
    assert None not in await asyncio.gather(*crowd, equal)
    assert await world.blocks(chat("one more")) is not None


async def test_large_prompts_take_no_place_of_others(world: World) -> None:
    """Whoever sends many has the next ones go by the estimate, and nobody else's."""

    class LargeAreLate(Counter):
        """A tokenizer that is long about large prompts."""

        def tokens(self, document: Mapping[str, Any]) -> list[int] | None:
            """See PromptCounter."""
            return (
                super().tokens(document) if len(said(document)) > LARGE_BYTES else [ord(one) for one in said(document)]
            )

    counter = world.counter = LargeAreLate()
    counter.may.clear()
    size = LARGE_BYTES + MOST_LARGE
    texts = ["x" * (size - number) for number in range(MOST_LARGE)]
    crowd = [asyncio.ensure_future(world.blocks(chat(text), size=size)) for text in texts]
    try:
        async with asyncio.timeout(PATIENCE):
            await eventually(lambda: len(world.prompts._flights) == MOST_LARGE, every=0.01, what="a crowd")
            assert await world.blocks(chat("x" * (size + 1)), size=size + 1) is None
            assert await world.blocks(chat("hello")) == PromptBlocks(5, names("hello"))
    finally:
        counter.may.set()
    assert None not in await asyncio.gather(*crowd)
    assert await world.blocks(chat("x" * (size + 1)), size=size + 1) is not None


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}, CHAT),
        (chat("hello", documents=[{"text": "x"}]), CHAT),
        (chat("hello", chat_template="x"), CHAT),
        ({"prompt": ["one", "two"]}, COMPLETIONS),
        ({"prompt": [[1, 2], [3]]}, COMPLETIONS),
        ({"prompt": [1, -1]}, COMPLETIONS),
        ({"input": "text"}, b"/embeddings"),
    ],
)
async def test_what_is_read_otherwise_than_here_goes_by_the_estimate(
    world: World, document: dict[str, Any], path: bytes
) -> None:
    """Pictures, templates of the request's own, several prompts, other routes."""
    assert await world.blocks(document, path=path) is None
    assert world.by == (0, 0, 1)


async def test_a_prompt_of_tokens_is_taken_as_it_is(world: World) -> None:
    """Nobody has to make any."""
    found = await world.blocks({"prompt": TOKENS}, path=COMPLETIONS)
    assert found == PromptBlocks(40, {4: block_names(TOKENS, 4, before=root_name())})
    assert world.counter is not None
    assert (world.counter.made, world.asked) == ([], 0)


async def test_a_long_prompt_of_tokens_is_read_beside_the_loop(world: World) -> None:
    """It is read and named like a short one; and where the threads are busy for as long as a request waits, not at all:
    the request goes by the estimate."""
    tokens = list(range(2 * SMALL_TOKENS + 4))
    expected = PromptBlocks(len(tokens), {4: block_names(tokens, 4, before=root_name())})
    assert await world.blocks({"prompt": tokens}, path=COMPLETIONS) == expected
    assert await world.blocks({"prompt": [*tokens, "x"]}, path=COMPLETIONS) is None
    world.prompts._seconds = 0.02
    may = threading.Event()
    crowd = [asyncio.ensure_future(world.prompts._threads.run(may.wait)) for _ in range(MOST_THREADS)]
    await asyncio.sleep(0)
    assert await world.blocks({"prompt": tokens}, path=COMPLETIONS) is None
    assert await world.blocks({"prompt": TOKENS}, path=COMPLETIONS) is not None
    may.set()
    await asyncio.gather(*crowd)
    assert world.by == (2, 0, 2)


async def test_short_and_huge_prompts_are_not_looked_at(world: World) -> None:
    """The short one is computed sooner; the huge one is made into tokens by nobody in time, and is not looked at where
    it is given as tokens either. Without a worker none is."""
    assert await world.blocks(chat("hello"), size=31) is None
    assert world.by == (0, 0, 0)
    assert await world.blocks(chat("hello"), size=MOST_BYTES + 1) is None
    assert await world.blocks({"prompt": TOKENS}, path=COMPLETIONS, size=MOST_BYTES + 1) is None
    assert world.by == (0, 0, 2)
    world.held.forget("a")
    assert await world.blocks(chat("hello")) is None
    assert world.by == (0, 0, 2)


async def test_a_long_prompt_is_named_beside_the_loop(world: World) -> None:
    """Its blocks are the same."""
    text = "x" * (SMALL_TOKENS + 4)
    assert await world.blocks(chat(text), size=len(text)) == PromptBlocks(len(text), names(text))


async def test_what_too_many_share_of_a_prompt_is_told(world: World) -> None:
    """In tokens: a system prompt behind which conversations fork, whether or not clients name their sessions."""
    system = "s" * BLOCK_CHARS
    shared = []
    for number in range(3 * FORKS):
        text = chr(300 + number) * 2 * BLOCK_CHARS
        found = await world.blocks(chat(system + text, prompt_cache_key=f"c{number}"), size=3 * BLOCK_CHARS)
        assert found is not None
        shared.append(found.shared)
    assert shared[0] == 0
    assert shared[-1] == BLOCK_CHARS
