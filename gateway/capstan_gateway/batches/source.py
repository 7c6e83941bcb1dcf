"""The input of one batch as it is read: a part at a time, with room for it in the process' budget."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from capstan_gateway.batches.ends import NO_INPUT, TOO_LONG, End
from capstan_gateway.batches.lines import Fault, LineRequest, LineTooLong, Splitter, Validator, read_line
from capstan_gateway.batches.means import Means
from capstan_gateway.batches.names import Names
from capstan_gateway.batches.objects import PART_BYTES, ObjectGone
from capstan_gateway.batches.records import BatchSpec

WAIT_SECONDS: Final = 1.0
"""How long to wait for memory."""


class Source:
    """The input of one batch."""

    def __init__(
        self, names: Names, spec: BatchSpec, means: Means, *, on_end: Callable[[End], None], stopped: Callable[[], bool]
    ) -> None:
        """`on_end` hears why it breaks off: the file is not there any more, or cannot be read as it was. Nobody waits
        for memory once it is `stopped`."""
        self._names = names
        self._spec = spec
        self._means = means
        self._on_end = on_end
        self._stopped = stopped

    async def check(self, validator: Validator) -> None:
        """Have all lines checked, beside the loop, unless that is stopped, or there are faults enough."""
        most = self._means.most_line_bytes
        splitter, over = Splitter(most), False

        def take(piece: bytes | None) -> bool:
            """Give whether nothing more is to be read."""
            try:
                for number, line in splitter.finish() if piece is None else splitter.feed(piece):
                    validator.take(number, line)
                    if validator.is_full:
                        return True
            except LineTooLong as error:
                validator.too_long(error.line, most)
                return True
            return False

        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                over = await self._means.threads.run(take, piece) or self._stopped()
                if over:
                    return
        await self._means.threads.run(take, None)
        validator.finish()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the input, a part at a time, with room for it in the budget."""
        means = self._means
        record = await means.files.find(self._names, self._spec.input_file_id)
        if record is None:
            self._on_end(NO_INPUT)
            return
        share = means.budget.share()
        try:
            while not share.grow_easily(2 * PART_BYTES):
                if self._stopped():
                    return
                await asyncio.sleep(WAIT_SECONDS)
            async with aclosing(means.files.read(self._names, record)) as pieces:
                async for piece in pieces:
                    yield piece
        except ObjectGone:
            self._on_end(NO_INPUT)
        finally:
            share.release()

    async def requests(self) -> AsyncGenerator[tuple[int, LineRequest], None]:
        """Give the requests of the input, which has been checked; lines that are none are left out."""
        splitter = Splitter(self._means.most_line_bytes)
        try:
            async with aclosing(self.pieces()) as pieces:
                async for piece in pieces:
                    for number, line in splitter.feed(piece):
                        request = read_line(line, number, self._spec.endpoint)
                        if not isinstance(request, Fault):
                            yield number, request
            for number, line in splitter.finish():
                request = read_line(line, number, self._spec.endpoint)
                if not isinstance(request, Fault):
                    yield number, request
        except LineTooLong:
            # Whoever checked it had another bound: a gateway of other settings, or this one before it was set anew.
            self._on_end(TOO_LONG)
