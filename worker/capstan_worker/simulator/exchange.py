"""One request and its answer on the wire, with the fault that was chosen for it."""

import math

import orjson

from capstan_worker.asgi import JSON, TEXT, Send, reply
from capstan_worker.simulator.breakable_connection import BreakableConnection
from capstan_worker.simulator.errors import ApiError, ClientGone, FaultDone
from capstan_worker.simulator.faults import STATUSES, Fault

DONE = b"data: [DONE]\n\n"
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_BROKEN = b'{"id": "simulated", "choices": [{"index": 0, '
_ERROR_EVENT = {"error": {"message": "simulated fault", "type": "InternalServerError", "param": None, "code": 500}}
_STATUS_TYPES = {
    429: "TooManyRequestsError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
}


class Exchange:
    """Sends one answer. Every method raises ClientGone when the client has gone, FaultDone when a fault ended it."""

    def __init__(self, connection: BreakableConnection, send: Send, fault: Fault | None) -> None:
        self.connection = connection
        self.fault = fault
        self.started = False
        self._send = send
        self._chunks = 0

    async def strike_before(self) -> None:
        """Let those faults happen that come instead of an answer."""
        fault = self.fault
        if fault is None:
            return
        if fault.name == "reset":
            await self.connection.reset()
        if fault.name == "stall" and fault.after is None:
            await self.connection.stall()
        if fault.name in STATUSES:
            raise _status_error(fault)
        if fault.name == "content-filter":
            message = "The response was filtered (simulated fault)."
            raise ApiError(400, message, type="invalid_request_error", param="prompt", code="content_filter")

    async def whole(self, document: object) -> None:
        """Send a whole answer with status 200."""
        await self._whole(orjson.dumps(document), JSON)

    async def text(self, text: str) -> None:
        """Send a whole answer that is a text."""
        await self._whole(text.encode(), TEXT)

    async def _whole(self, body: bytes, content_type: bytes) -> None:
        name = self.fault.name if self.fault is not None else ""
        if name == "badjson":
            body = _BROKEN
        if name == "truncate":
            body = body[: len(body) // 2]
        if name == "errorevent":
            raise ApiError(500, "simulated fault", type="InternalServerError")
        if name in ("die", "eof", "stall"):
            await self._half(body, name)
        self.connection.check()
        self.started = True
        await reply(self._send, 200, body, content_type=content_type)

    async def error(self, error: ApiError) -> None:
        """Send an error; in a stream that has begun, as an event and the end."""
        if self.started:
            await self._write(b"data: " + orjson.dumps(error.document) + b"\n\n" + DONE, more=False)
            return
        self.started = True
        await reply(self._send, error.status, orjson.dumps(error.document), headers=error.headers)

    async def begin_stream(self) -> None:
        """Send the head of a stream."""
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})

    async def event(self, document: object) -> None:
        """Send one event of a stream."""
        if self.fault is not None:
            await self._strike_within()
        self._chunks += 1
        await self._write(b"data: " + orjson.dumps(document) + b"\n\n")

    async def end_stream(self) -> None:
        """Send `[DONE]` and the end of the body."""
        if self.fault is not None:
            await self._strike_within(last=True)
            if self.fault.name == "nodone":
                await self._write(b"", more=False)
                return
        await self._write(DONE, more=False)

    async def _strike_within(self, *, last: bool = False) -> None:
        fault = self.fault
        if fault is None or fault.after is None:
            return
        # A stream that is shorter than `after` gets its fault at its end: a fault that was asked for always comes.
        if self._chunks != fault.after and not (last and self._chunks < fault.after):
            return
        if fault.name == "die":
            await self.connection.reset()
        if fault.name == "eof":
            await self.connection.hang_up()
        if fault.name == "stall":
            await self.connection.stall()
        if fault.name == "truncate":
            await self._write(b"", more=False)
            raise FaultDone
        if fault.name == "errorevent":
            await self._write(b"data: " + orjson.dumps(_ERROR_EVENT) + b"\n\n" + DONE, more=False)
            raise FaultDone
        if fault.name == "badjson":
            await self._write(b"data: " + _BROKEN + b"\n\n")

    async def _half(self, body: bytes, name: str) -> None:
        headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._write(body[: len(body) // 2])
        if name == "stall":
            await self.connection.stall()
        await (self.connection.reset() if name == "die" else self.connection.hang_up())

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if self.connection.lost:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _status_error(fault: Fault) -> ApiError:
    status = int(fault.name)
    seconds = fault.params.get("retry-after", 1.0 if status == 429 else math.nan)
    headers = () if math.isnan(seconds) else ((b"retry-after", f"{seconds:g}".encode()),)
    return ApiError(status, f"simulated fault: status {status}", type=_STATUS_TYPES[status], headers=headers)
