"""A stream filter that sends each text of a stream through a channel of its own, and writes the chunks anew."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_gateway.documents import to_json
from capstan_gateway.guards.window import Part
from capstan_gateway.pipeline.guards.channel import Blocked, Channel, Open
from capstan_gateway.pipeline.guards.channels import (
    CONTENT,
    REFUSAL,
    THOUGHTS,
    ChoiceForm,
    Key,
    beside,
    head_of,
    only_text_of,
    pieces_of,
    with_value,
)
from capstan_gateway.pipeline.guards.output import FINISH
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, HeldTooMuch

MOST_TEXTS: Final = 1024
"""Of one stream: choices, and what each says."""
_TOLD_IN_PARTS: Final = (THOUGHTS, CONTENT, REFUSAL)
Texts = dict[Key, list[Part]]


@dataclass(slots=True)
class _Choice:
    """One choice."""

    form: ChoiceForm
    channels: dict[Key, Channel] = field(default_factory=dict)
    came: dict[Key, int] = field(default_factory=dict)
    """How many characters of each text have come."""
    since: dict[Key, float] = field(default_factory=dict)
    """When the oldest of what is held came."""


class TextFilter:
    """Implements `streaming.filters.StreamFilter`. `make` gives the channel of a text of a choice.

    With `in_parts` the client's dialect tells texts one after the other, and one is over where another one begins: what
    was held of it goes on then. Otherwise texts of a choice do not wait for each other.
    """

    def __init__(
        self, make: Callable[[Key, int], Channel], *, in_parts: bool, waited: Callable[[float], None],
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._make = make
        self._in_parts = in_parts
        self._waited = waited
        self._now = now
        self._newest: Document = {}
        """The chunk that came last: what is written has its head."""
        self._choices: dict[int, _Choice] = {}
        self._texts = 0
        self._held = 0

    @property
    def held(self) -> int:
        """How much of the stream is kept."""
        return self._held

    def chunk(self, chunk: Document) -> Chunks | Awaitable[Chunks]:
        """Take a chunk; give what may go on now. Raises EndOfStream with that where a guard blocks."""
        choices = chunk.get("choices")
        if not choices:
            return ({**head_of(chunk), "choices": []},)
        if type(choices) is list and len(choices) == 1:
            given = self._at_once(chunk, choices[0])
            if given is not None:
                return given
        return self._chunk(chunk)

    def _at_once(self, chunk: Document, given: Document) -> Chunks | None:
        """Do as `_chunk` does where only more of a text came, and nobody need look at it now; None where not."""
        said = only_text_of(given)
        choice = self._choices.get(given.get("index") or 0)
        if said is None or choice is None or choice.form.waiting:
            return None
        key, text = said
        channel = choice.channels.get(key)
        if channel is None or (self._in_parts and self._others_wait(choice, key)):
            return None
        before, out = channel.held, []  # type: int, list[Part]
        if not channel.take(text, out):
            return None
        self._newest = chunk
        choice.came[key] += len(text)
        choice.form.note_text(given)
        self._took(choice, key, out, more=channel.held - before)
        if not out:
            return ()
        written: list[Document] = []
        self._write(choice, {key: out}, written)
        return self._told(chunk, written)

    @staticmethod
    def _others_wait(choice: _Choice, key: Key) -> bool:
        return any(other.held for name, other in choice.channels.items() if name != key and name in _TOLD_IN_PARTS)

    def idle(self) -> Chunks | Awaitable[Chunks]:
        """Give what is decided of what is held."""
        return self._each(lambda channel, out: channel.idle(out)) if self._held else ()

    def end(self) -> Chunks | Awaitable[Chunks]:
        """Give all that is held."""
        if not (self._held or any(choice.form.waiting for choice in self._choices.values())):
            return ()
        return self._each(lambda channel, out: channel.end(out), ends=True)

    async def _chunk(self, chunk: Document) -> Chunks:
        self._newest = chunk
        written: list[Document] = []
        try:
            for choice in chunk["choices"]:
                await self._take(choice, written)
        except Blocked as blocked:
            raise EndOfStream(FINISH, self._chunks(written)) from blocked
        return self._told(chunk, written)

    def _told(self, chunk: Document, written: list[Document]) -> Chunks:
        """Give what goes on of a chunk, the last one with its usage."""
        chunks = self._chunks(written)
        if chunks and "usage" in chunk:
            for one in chunks:
                one["usage"] = None
            chunks[-1]["usage"] = chunk["usage"]
        return chunks

    async def _each(
        self, ask: Callable[[Channel, list[Part]], Awaitable[None]], *, ends: bool = False
    ) -> Chunks:  # fmt: skip
        """Ask every channel, and write what goes on."""
        written: list[Document] = []
        for choice in self._choices.values():
            texts: Texts = {}
            try:
                for key, channel in choice.channels.items():
                    if channel.held:
                        await self._ask(choice, key, texts, lambda out, one=channel: ask(one, out))  # type: ignore[misc]
            except Blocked as blocked:
                self._write(choice, texts, written)
                raise EndOfStream(FINISH, self._chunks(written)) from blocked
            self._write(choice, texts, written, ends=ends)
        return self._chunks(written)

    async def _take(self, given: Document, written: list[Document]) -> None:
        """Send what is said in one choice of a chunk through its channels."""
        index = given.get("index") or 0
        choice = self._choices.get(index)
        if choice is None:
            self._count()
            choice = self._choices[index] = _Choice(ChoiceForm(index))
        delta = given.get("delta")
        role = delta.get("role") if isinstance(delta, dict) else None
        try:
            given = await self._judge_beside(choice, choice.form.with_names(given))
        except Blocked:
            self._write(choice, {}, written, role=role)
            raise
        choice.form.note(given, choice.came)
        texts: Texts = {}
        over = given if given.get("finish_reason") else None
        try:
            for key, said in pieces_of(given):
                if self._in_parts:
                    await self._end_others(choice, key, texts, written)
                channel = self._channel(choice, key)
                choice.came[key] = choice.came.get(key, 0) + len(said)
                await self._ask(choice, key, texts, lambda out, one=channel, text=said: one.feed(text, out))  # type: ignore[misc]
            if over is not None:
                for key, channel in choice.channels.items():
                    await self._ask(choice, key, texts, lambda out, one=channel: one.end(out))  # type: ignore[misc]
        except Blocked:
            self._write(choice, texts, written, role=role)
            raise
        self._write(choice, texts, written, role=role, over=over, ends=over is not None)

    async def _judge_beside(self, choice: _Choice, given: Document) -> Document:
        """Give the choice as what stands beside its texts may go on: that is whole as it comes."""
        for key, values in beside(given):
            channel = self._make(key, choice.form.index)
            if isinstance(channel, Open):
                continue
            texts = [value if isinstance(value, str) else to_json(value).decode() for _, value in values]
            out: list[Part] = []
            await channel.feed("\n".join(texts), out)
            await channel.end(out)
            if all(part.kept for part in out):
                continue
            told = "".join(part.written for part in out).split("\n")
            if len(told) != sum(text.count("\n") + 1 for text in texts) or len(told) != len(texts):
                raise Blocked
            for (steps, value), before, text in zip(values, texts, told, strict=True):
                if before != text:
                    # NB: of what is no text, nothing is left where something in it had to be replaced.
                    given = with_value(given, steps, text if isinstance(value, str) else None)
        return given

    async def _end_others(self, choice: _Choice, key: Key, texts: Texts, written: list[Document]) -> None:
        for other in _TOLD_IN_PARTS:
            channel = choice.channels.get(other)
            if other != key and channel is not None and channel.held:
                await self._ask(choice, other, texts, channel.end)
                self._write(choice, texts, written)
                texts.clear()

    async def _ask(self, choice: _Choice, key: Key, texts: Texts, ask: Callable[[list[Part]], Awaitable[None]]) -> None:
        channel, out = choice.channels[key], texts.setdefault(key, [])
        before, count = channel.held, len(out)
        try:
            await ask(out)
        finally:
            self._took(choice, key, out[count:], more=channel.held - before)

    def _took(self, choice: _Choice, key: Key, fresh: list[Part], *, more: int) -> None:
        """Take note of what a channel has let go on, and of how much more it holds."""
        self._held += more
        if fresh:
            choice.form.went_on(key, fresh)
        if fresh or key not in choice.since:
            self._note_wait(choice, key, went_on=bool(fresh), held=bool(choice.channels[key].held))

    def _note_wait(self, choice: _Choice, key: Key, *, went_on: bool, held: bool) -> None:
        now = self._now()
        if went_on:
            self._waited(now - choice.since.pop(key, now))
        if held:
            choice.since.setdefault(key, now)

    def _channel(self, choice: _Choice, key: Key) -> Channel:
        channel = choice.channels.get(key)
        if channel is None:
            self._count()
            channel = choice.channels[key] = self._make(key, choice.form.index)
        return channel

    def _count(self) -> None:
        self._texts += 1
        if self._texts > MOST_TEXTS:
            raise HeldTooMuch("the answer could not be checked: it has more texts than may be")

    def _write(
        self, choice: _Choice, texts: Texts, written: list[Document], *, role: Any = None,
        over: Document | None = None, ends: bool = False,
    ) -> None:  # fmt: skip
        """Write what goes on of a choice; with `ends` also the calls of which nothing was said but their names."""
        said = {key: "".join(part.written for part in parts) for key, parts in texts.items()}
        said = {key: text for key, text in said.items() if text}
        for key in choice.form.waiting:
            if ends or isinstance(choice.channels.get(key) or self._make(key, choice.form.index), Open):
                said.setdefault(key, "")
        one = choice.form.chunk_of(said, role=role, ends=over)
        if one is not None:
            written.append(one)

    def _chunks(self, written: list[Document]) -> list[Document]:
        if not written:
            return []
        head = head_of(self._newest)
        head.pop("usage", None)
        return [{**head, "choices": [one]} for one in written]
