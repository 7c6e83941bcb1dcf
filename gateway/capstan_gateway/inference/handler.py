"""Handlers of the server itself, found by their path before any framework looks at a request."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from capstan_contract.names import REQUEST_ID_HEADER
from capstan_gateway.background.port import Slot
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.errors import GatewayError, MethodNotAllowed, Overloaded, Unconfigured
from capstan_gateway.identity.credential import API_KEY, AUTHORIZATION, CREDENTIAL_HEADERS, X_API_KEY, credential_of
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.identity.tokens import Undecided
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.asked_later import prefers_async
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.options import MAX_COST_HEADER, Options
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.request import Route
from capstan_gateway.pipeline.run import serve
from capstan_gateway.pipeline.watch import InFlight
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.serving.turned_away import Reason, TurnedAway

BODY_SECONDS: Final = 60.0
"""How long the body of a request may take to arrive."""

_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_TRACE: Final = frozenset((b"traceparent", b"tracestate"))
_SESSION: Final = b"x-session-id"
_MAX_COST: Final = MAX_COST_HEADER.encode()
_PREFER: Final = b"prefer"
_READ: Final = frozenset(
    (_REQUEST_ID, _SESSION, _MAX_COST, _PREFER, *_TRACE, b"content-type", b"content-encoding", *CREDENTIAL_HEADERS)
)
_MAX_SESSION_BYTES: Final = 256
_MAX_TRACE_BYTES: Final = 1024
_MAX_COST_BYTES: Final = 64


class Holder(Protocol):
    """Who holds the Runtime that new requests take; None before there is one."""

    runtime: Runtime | None


class InferenceHandler:
    """Serves one route."""

    def __init__(
        self,
        route: Route,
        deps: Deps,
        *,
        store: Holder,
        requests: InFlight,
        ids: RequestIds,
        turned_away: TurnedAway,
        gate: Gate,
        answer: Callable[[Ask], Awaitable[Reply]] | None = None,
    ) -> None:
        """Make it; `answer` gives the replies in place of models."""
        self._route = route
        self._deps = deps
        self._store = store
        self._requests = requests
        self._ids = ids
        self._turned_away = turned_away
        self._gate = gate
        self._answer = answer

    def __call__(self, exchange: Exchange, waited: bool = False, model: str = "") -> Awaitable[None] | None:
        """Begin to serve one request; give what serves it to its end, unless it has its answer already.

        `waited` says that nobody waits once more to find out who asks; `model` is what its path names, if it names one.
        """
        runtime = self._store.runtime
        requests = self._requests
        if runtime is None or exchange.method != b"POST" or len(requests) >= requests.limit:
            self._refuse(exchange, runtime)
            return None
        now = self._deps.clock()
        delivery = Delivery(exchange, self._route, runtime, now, now + BODY_SECONDS)
        if model:
            delivery.model = model
        credential = self._read_headers(delivery)
        try:
            principal = self._gate.admit(credential, runtime.keyring)
        except Undecided as undecided:
            if not waited:
                return self._begin_later(exchange, undecided, model)
            self._turn_away(exchange, Reason.of(undecided.otherwise), undecided.otherwise, delivery.request_id)
            return None
        except GatewayError as error:
            self._turn_away(exchange, Reason.of(error), error, delivery.request_id)
            return None
        return self._serve(delivery, principal)

    def serve_own(self, exchange: Exchange, principal: Principal, slot: Slot | None = None) -> Awaitable[None] | None:
        """Begin to serve a request that the gateway itself makes for somebody, whose word counts for who that is.

        With a `slot` the answer is put there that is to be kept."""
        runtime = self._store.runtime
        requests = self._requests
        if runtime is None or len(requests) >= requests.limit:
            self._refuse(exchange, runtime)
            return None
        now = self._deps.clock()
        delivery = Delivery(exchange, self._route, runtime, now, now + BODY_SECONDS)
        delivery.slot = slot
        self._read_headers(delivery)
        return self._serve(delivery, principal)

    def _serve(self, delivery: Delivery, principal: Principal) -> Awaitable[None]:
        exchange, requests = delivery.exchange, self._requests
        if principal is not NOBODY:
            delivery.comes_from(principal)
        if requests.draining:
            exchange.keep_alive = False
        exchange.on_gone = delivery.leave
        requests.add(delivery)
        return serve(delivery, self._deps, requests.remove, self._answer)

    async def _begin_later(self, exchange: Exchange, undecided: Undecided, model: str) -> None:
        """Begin again, at most one time, when the issuer of the token has published its keys once more."""
        await undecided.issuer.learn()
        serving = None if exchange.gone else self(exchange, waited=True, model=model)
        if serving is not None:
            await serving

    def _read_headers(self, delivery: Delivery) -> bytes:
        """Read what counts; give the credential, b"" for none."""
        given = authorization = x_api_key = api_key = b""
        for name, value in delivery.exchange.headers:
            if name not in _READ:
                continue
            if name == b"content-type":
                delivery.content_type = value
            elif name == _REQUEST_ID:
                given = value
            elif name == _SESSION:
                delivery.session = value[:_MAX_SESSION_BYTES].decode("latin-1")
            elif name == AUTHORIZATION:
                authorization = authorization or value
            elif name == X_API_KEY:
                x_api_key = x_api_key or value
            elif name == API_KEY:
                api_key = api_key or value
            elif name == b"content-encoding":
                delivery.content_encoding = value
            elif name == _PREFER:
                delivery.prefers_async = delivery.prefers_async or prefers_async(value)
            elif name == _MAX_COST:
                delivery.options = Options(max_cost_header=value[:_MAX_COST_BYTES] or b"?")
            elif len(value) <= _MAX_TRACE_BYTES:
                delivery.trace = [*delivery.trace, (name, value)]
        delivery.request_id = self._ids.accept(given) if given else self._ids.make()
        return credential_of(authorization, x_api_key, api_key) if authorization or x_api_key or api_key else b""

    def _refuse(self, exchange: Exchange, runtime: Runtime | None) -> None:
        """Answer outside of the pipeline."""
        reason, error = self._refusal(exchange, runtime)
        self._turn_away(exchange, reason, error, self._turned_away.request_id(exchange.headers))

    def _turn_away(self, exchange: Exchange, reason: Reason, error: GatewayError, request_id: bytes) -> None:
        self._turned_away.note(reason, error, request_id, self._route.path)
        respond_error(exchange, error, request_id, self._route.dialect)

    def _refusal(self, exchange: Exchange, runtime: Runtime | None) -> tuple[Reason, GatewayError]:
        if exchange.method != b"POST":
            allow = ((b"allow", b"POST"),)
            return Reason.METHOD, MethodNotAllowed(f"{self._route.path} takes POST", headers=allow)
        # To a client that waits a moment, a connection of another replica is as good.
        exchange.keep_alive = False
        if runtime is None:
            return Reason.NO_CONFIG, Unconfigured()
        return Reason.CONCURRENCY, Overloaded("the gateway is full; try again")
