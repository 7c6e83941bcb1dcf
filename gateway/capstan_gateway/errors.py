"""Everything that can go wrong with a request, by what the client can do about it.

    GatewayError                    status, OpenAI type and code, parameter, a message that is safe for clients
    ├── InvalidRequest        400   fix the request
    │   ├── RequestTooLarge   413
    │   ├── HeadersTooLarge   431
    │   ├── NotJson           415
    │   ├── RequestTimeout    408
    │   ├── RouteNotFound     404
    │   ├── MethodNotAllowed  405
    │   ├── NotStored         404   no such response; 400 where a request names it as its previous one
    │   ├── CodingNotSupported  501
    │   └── VersionNotSupported 505
    ├── Unauthenticated       401   send a credential that is valid
    ├── ModelNotFound         404   use a model that exists
    ├── ModelNotReady         503   try again later: the model has no ready endpoint, or none that comes up
    ├── Overloaded            503   try again in a second: this gateway is full
    │   └── Unconfigured      503   or has no config yet
    ├── ShuttingDown          503   try again: another replica answers
    ├── StoreUnavailable      503   try again: what is stored cannot be read now
    ├── LimitReached          429   wait as long as it says, and try again
    ├── BudgetSpent           429   ask for more money, or come back in the next period; an SDK does not wait for that
    ├── LimitExceeded         400   ask for less: it is more than the limit ever allows
    ├── LimiterUnavailable    503   try again: nobody can tell how much is left
    ├── IdentityUnavailable   503   try again: nobody's token can be checked now
    ├── GuardBlocked          400   ask for something else: a guard does not let it pass
    ├── GuardUnavailable      503   try again: a guard could not check the request
    ├── AnswerNotChecked      502   a guard could not check the answer
    ├── NotCached             504   ask without `only-if-cached`: there is no answer that is kept
    ├── UpstreamFailed        502   the engine broke off, answered nonsense or could not be reached
    ├── UpstreamTimeout       504   the engine was too slow
    ├── ImageUnavailable 502, 504   try again: the host of an image that the request names failed, or was too slow
    ├── RequestPoisoned       500   do not ask it again: engines have died of it
    └── UpstreamRejected      any   the engine's own error answer, normalised
    ClientGone                      nobody is there to be told

Messages never hold a prompt, a completion, a credential or an upstream's address. What happened inside goes to the log
under the request id.
"""

from typing import Final

from capstan_gateway.headers import Header, retry_after_headers

INVALID_REQUEST_TYPE: Final = "invalid_request_error"
SERVER_ERROR_TYPE: Final = "server_error"
TOO_LONG: Final = "context_length_exceeded"
"""The code of a prompt that does not fit into the model's window."""
NO_ROOM: Final = "the gateway holds as much as it may; try again"
TRY_AGAIN: Final = retry_after_headers(1.0)
OUT_OF_TIME: Final = "the model did not finish its answer in time"


class GatewayError(Exception):
    """A request that gets an error answer."""

    status: int = 500
    type: str = SERVER_ERROR_TYPE
    code: str | None = "internal_error"
    lengths: tuple[int, int, int] | None = None
    """Of a prompt that is too long, where somebody has told: the tokens of it, of the answer that was asked for (0
    where nobody told), and of the window."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type
        if code is not None:
            self.code = code


class InvalidRequest(GatewayError):
    """The request itself is wrong; the same request fails again."""

    status = 400
    type = INVALID_REQUEST_TYPE
    code: str | None = None


class RequestTooLarge(InvalidRequest):
    """The body is over the gateway's limit."""

    status = 413
    code = "request_too_large"


class HeadersTooLarge(InvalidRequest):
    """The head of the request is over the gateway's limit."""

    status = 431
    code = "headers_too_large"


class NotJson(InvalidRequest):
    """The body is declared to be something other than JSON."""

    status = 415
    code = "unsupported_media_type"


class RequestTimeout(InvalidRequest):
    """The body did not arrive in time, or not fast enough."""

    status = 408
    code = "request_timeout"


class RouteNotFound(InvalidRequest):
    """No such path."""

    status = 404
    code = "route_not_found"


class MethodNotAllowed(InvalidRequest):
    """The path is there, but not with this method."""

    status = 405
    code = "method_not_allowed"


class CodingNotSupported(InvalidRequest):
    """The body is framed in a way that this server does not know."""

    status = 501
    code = "transfer_coding_not_supported"


class VersionNotSupported(InvalidRequest):
    """The request is of another version of HTTP."""

    status = 505
    code = "http_version_not_supported"


class Unauthenticated(GatewayError):
    """Nobody is known by the credential of the request, or it has none. The message never repeats it."""

    status = 401
    type = INVALID_REQUEST_TYPE
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=((b"www-authenticate", b"Bearer"),))


class ModelNotFound(GatewayError):
    """No model of this name is configured."""

    status = 404
    type = INVALID_REQUEST_TYPE
    code = "model_not_found"


class ModelNotReady(GatewayError):
    """The model is known, but nothing that could answer was ready within the wait."""

    status = 503
    code = "model_not_ready"


class Overloaded(GatewayError):
    """The gateway serves as many requests as it may, or holds as much; its client is told when to come back."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str = NO_ROOM, *, headers: tuple[Header, ...] = TRY_AGAIN) -> None:
        super().__init__(message, headers=headers)


class Unconfigured(Overloaded):
    """The gateway has no config yet: what it serves, and whom, it cannot know."""

    def __init__(self) -> None:
        super().__init__("the gateway has no configuration yet; try again")


class ShuttingDown(GatewayError):
    """The process ends before the answer does."""

    status = 503
    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("the gateway is shutting down")


class NotStored(InvalidRequest):
    """Nothing is stored under this id for who asks.

    Where a request goes on from it, status and code are OpenAI's for that: 400, previous_response_not_found.
    """

    status = 404
    code = "response_not_found"


class StoreUnavailable(GatewayError):
    """What the request needs of the store cannot be had now."""

    status = 503
    code = "store_unavailable"

    def __init__(self, what: str = "stored responses") -> None:
        super().__init__(f"{what} cannot be read at the moment; try again", headers=TRY_AGAIN)


NO_RETRY: Final[Header] = (b"x-should-retry", b"false")
"""Tells the SDKs that waiting a moment is of no use."""


class LimitReached(GatewayError):
    """There is not enough left now; its headers say when there is."""

    status = 429
    type = "requests"
    """What there is not enough of: requests or tokens."""
    code = "rate_limit_exceeded"


class BudgetSpent(GatewayError):
    """What may be spent in this period has been spent."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class LimitExceeded(InvalidRequest):
    """The request alone takes more than a limit ever has."""

    code = "request_exceeds_limit"


class LimiterUnavailable(GatewayError):
    """The counts cannot be had, and a policy says that nobody is served without them."""

    status = 503
    code = "limiter_unavailable"

    def __init__(self) -> None:
        super().__init__("what is left of your limits cannot be told at the moment; try again", headers=TRY_AGAIN)


class IdentityUnavailable(GatewayError):
    """The keys of the token's issuer are not known, or too old to be believed."""

    status = 503
    code = "identity_unavailable"

    def __init__(self) -> None:
        super().__init__("tokens cannot be checked at the moment; try again", headers=TRY_AGAIN)


class GuardBlocked(InvalidRequest):
    """A guard does not let the request pass. Its message names the guard, never what was found. It is final: no other
    model is asked."""

    code = "content_filter"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, param=param, headers=(NO_RETRY,))


class GuardUnavailable(GatewayError):
    """A guard that must check the request could not. No other model is asked: one without the guard could answer."""

    status = 503
    code = "guard_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=TRY_AGAIN)


class NotCached(GatewayError):
    """The client takes an answer out of a cache alone, and none is there: RFC 9111, section 5.2.1.7."""

    status = 504
    code = "cache_miss"

    def __init__(self, *, headers: tuple[Header, ...] = ()) -> None:
        super().__init__("no answer to this request is cached, and it says `only-if-cached`", headers=headers)


class AnswerNotChecked(GatewayError):
    """A guard that must check the answer could not. No other model is asked, as for a request."""

    status = 502
    code = "answer_not_checked"


class UpstreamFailed(GatewayError):
    """The engine could not be reached, broke off, or answered something that is not an answer."""

    status = 502
    code = "upstream_error"


class RequestPoisoned(GatewayError):
    """Engines or workers have died each time that they had it. It is final: no other model is asked."""

    code = "request_poisoned"

    def __init__(self) -> None:
        super().__init__("engines failed each time that they were given this request", headers=(NO_RETRY,))


class UpstreamTimeout(GatewayError):
    """The engine did not answer within the model's deadlines."""

    status = 504
    code = "timeout"


class ImageUnavailable(GatewayError):
    """An image that the request names by URL could not be had now; its host may do better later."""

    status = 502
    code = "image_unavailable"


class UpstreamRejected(GatewayError):
    """The engine answered with an error of its own; status, message and meaning are the engine's."""

    of_model = False
    """Whether the engine itself has said that it is the model which is not there, not the route."""


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""
