"""What the simulator answers when it does not answer.

ApiError      becomes vLLM's error envelope (its `code` is a number)
ClientGone    the client closed the connection: the request is aborted
FaultDone     an injected fault has ended the exchange: nothing more is sent
"""

from capstan_worker.errors import WorkerError


class ApiError(WorkerError):
    """An error that the client sees."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "BadRequestError",  # the name that it has on the wire
        param: str | None = None,
        code: int | str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.document = {
            "error": {"message": message, "type": type, "param": param, "code": status if code is None else code}
        }


class ClientGone(WorkerError):
    """The client closed the connection before its answer was complete."""


class FaultDone(WorkerError):
    """An injected fault has ended the exchange."""
