"""A stream of chat completion chunks on its way to a client that speaks another dialect."""

from collections.abc import Callable
from typing import Any

import orjson

from capstan_gateway.dialects.clients.port import Presenter
from capstan_gateway.dialects.frames import each_frame
from capstan_gateway.engine_errors import upstream_error_event
from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.sse import frame_data


class PresentedRelay(RelayAround):
    """A relay around another one: that one knows what a whole stream is, this one only writes it anew."""

    def __init__(self, inner: Relay, presenter: Presenter) -> None:
        super().__init__(inner)
        self._presenter = presenter

    @property
    def kept(self) -> int:
        """What is kept of the stream, by both."""
        return self._inner.kept + self._presenter.held

    def feed(self, data: bytes) -> bytes:
        """The bytes to send; raises StreamBroken when the stream makes no sense."""
        return self._presented(lambda: self._inner.feed(data))

    def finish(self) -> bytes:
        """What remains to be sent when the body is over; raises StreamBroken if that was too early."""
        return self._presented(self._inner.finish)

    def failure(self, error: GatewayError) -> bytes:
        """The events that end a stream which cannot go on."""
        return self._presenter.failure(error)

    def present(self, run: bytes) -> bytes:
        """Write what the inner relay gave out anew. Its frames are whole and hold JSON: it has read them."""
        return each_frame(run, self._frame) if run else b""

    def _presented(self, read: Callable[[], bytes]) -> bytes:
        try:
            run = read()
        except StreamBroken as broken:
            broken.before = self.present(broken.before)
            raise
        return self.present(run)

    def _frame(self, frame: bytes) -> bytes:
        data = frame_data(frame)
        if data is None:
            # A comment: it keeps the connection alive in every dialect.
            return frame + b"\n\n" if frame.startswith(b":") else b""
        if data.strip() == b"[DONE]":
            if self._inner.usage is None:
                self._presenter.estimated(self._inner.text.tokens)
            return self._presenter.end()
        chunk: dict[str, Any] = orjson.loads(data)
        if chunk.get("error") is not None:
            return self._presenter.failure(self._inner.error or upstream_error_event(chunk))
        try:
            return self._presenter.chunk(chunk)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            # NB: the relay has checked what is usual. What remains is an engine's doing all the same, and no bug here.
            raise StreamBroken("the model's engine sent a malformed answer") from error
