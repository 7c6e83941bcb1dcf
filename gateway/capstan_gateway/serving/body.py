"""The bytes of a body as they come, in one piece of memory."""


class Body:
    """What has come of a body and was not taken yet.

    A body that comes in one piece stays that piece. From the second one on there is one buffer that grows: a list of
    pieces would cost some fifty bytes for each, and a client may send pieces of one byte.
    """

    __slots__ = ("_buffer", "_piece")

    def __init__(self) -> None:
        self._piece = b""
        self._buffer: bytearray | None = None

    def __len__(self) -> int:
        return len(self._piece) if self._buffer is None else len(self._buffer)

    def add(self, piece: bytes) -> None:
        """Take one more piece."""
        if self._buffer is not None:
            self._buffer += piece
        elif self._piece:
            self._buffer = bytearray(self._piece)
            self._buffer += piece
            self._piece = b""
        else:
            self._piece = piece

    def take_piece(self) -> bytes | None:
        """Give what has come, and begin anew, if that copies nothing."""
        if self._buffer is not None:
            return None
        piece, self._piece = self._piece, b""
        return piece

    def take(self) -> bytes:
        """Give what has come, and begin anew."""
        taken = self._piece if self._buffer is None else bytes(self._buffer)
        self.clear()
        return taken

    def clear(self) -> None:
        """Let go of what has come."""
        self._piece, self._buffer = b"", None
