"""How far a stream may go by what was taken for it. Pure: it is told what was used, what was taken and what was denied.

Taken is the output of one slice at first, and one slice more each time that half of the newest one is used: then the
store is asked while the stream goes on, and nobody waits for it. Where an answer comes so fast, or the store so late,
that all of it is used before there is an answer, the stream waits.

    granted ────────────────────┐
    used ──────────┐            │
    ...............│............│
                   ask_at       what comes beyond it waits for an answer, or ends the stream

What is denied ahead is asked for once more at the very end, where time may bring some of it back. **A stream goes
beyond what was taken by one slice at most**: what comes in one piece is cut at its frames (`piece`), and a frame that
is larger than that is not given before more was taken for it.
"""

from typing import Final

BYTES_OF_A_TOKEN: Final = 3
"""No text has more tokens than a third of its bytes, by the rule of `tokens.estimate`."""
_FRAME_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Slices:
    """One stream under one policy. All numbers are tokens of output."""

    __slots__ = ("_final", "_newest", "_refused", "ask_at", "asked", "granted", "most", "slice")

    def __init__(self, *, granted: int, slice: int, most: int | None) -> None:
        """`granted` was taken when the stream began, less what was used before it; `most` is all that may come."""
        self.granted = granted
        self.slice: Final = slice
        self.most: Final = most
        self.asked = 0
        """What is being asked for."""
        self._newest = max(granted, 0)
        self._refused = False
        self._final = False
        self._set_ask_at()

    def _set_ask_at(self) -> None:
        self.ask_at = self.granted
        """When so much is used there is something to ask for."""
        if not self._refused:
            self.ask_at -= min(self._newest, self.slice) // 2

    @property
    def whole(self) -> bool:
        """Whether all that may come was taken: then the engine keeps to the end."""
        return self.most is not None and self.granted >= self.most

    @property
    def over(self) -> bool:
        """Whether nothing more will be taken."""
        return self._final and not self.whole

    def may_give(self, used: int) -> bool:
        """Whether what has come may go out, when so much of it is used in all."""
        return used <= self.granted + self.slice or self.whole

    def may_go_on(self, used: int) -> bool:
        """Whether there is something left for what comes next."""
        return used < self.granted or self.whole

    def wanted(self, used: int) -> int:
        """Say how much is to be asked for now; 0: nothing. Whoever asks says what became of it."""
        if self.asked or self._final or self.whole or used < self.ask_at:
            return 0
        more = self.slice + max(used - self.granted, 0)
        self.asked = more if self.most is None else max(min(more, self.most - self.granted), 1)
        return self.asked

    def take(self) -> None:
        """What was asked for was taken."""
        self.granted += self.asked
        self._newest, self.asked, self._refused = self.asked, 0, False
        self._set_ask_at()

    def refuse(self, used: int, *, for_good: bool) -> None:
        """It was denied; with `for_good` no waiting helps. So much was used when it was asked for."""
        self.asked = 0
        self._final = for_good or used >= self.granted
        self._refused = True
        self._set_ask_at()

    def room(self, used: int) -> int:
        """Give how many bytes surely hold no more than may come."""
        return BYTES_OF_A_TOKEN * max(self.granted + self.slice - used, 0)


def piece(data: bytes, most: int) -> tuple[bytes, bytes]:
    """Give the whole frames at the front that have at most so many bytes together, at least one; and the rest."""
    if len(data) <= most:
        return data, b""
    ends = len(data) - len(data.lstrip(b"\r\n"))
    if ends:  # The last bytes of a frame that came before.
        return data[:ends], data[ends:]
    for end in _FRAME_ENDS:
        at = data.rfind(end, 0, most)
        if at < 0:
            at = data.find(end)
        if at >= 0:
            at += len(end)
            return data[:at], data[at:]
    return data, b""
