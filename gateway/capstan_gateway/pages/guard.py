"""Who may read which page. What is not said to be open is closed.

open     /, /api/hello, /healthz, /readyz    who looks for a gateway, and the kubelet; details are told to the admin
admin    /internal, /admin, /metrics          the admin credential; see `AdminGuard` for what is open without
else     models, stored responses, docs       a credential of the API, as for inference
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from fastapi import Request

from capstan_gateway.config.runtime import Runtime
from capstan_gateway.errors import GatewayError, Unauthenticated, Unconfigured
from capstan_gateway.identity.admin_key import AdminKey, Standing
from capstan_gateway.identity.credential import find_credential
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.keyring import NO_KEYS
from capstan_gateway.identity.principal import Principal
from capstan_gateway.identity.tokens import Undecided
from capstan_gateway.pages.anthropic import error_writer
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import respond_error
from capstan_gateway.serving.service import path_of
from capstan_gateway.serving.turned_away import MAX_ROUTE, Reason, TurnedAway

HEALTH: Final = frozenset((b"/healthz", b"/readyz"))
OPEN: Final = HEALTH | {b"/", b"/api/hello"}
METRICS: Final = b"/metrics"
CONFIG: Final = b"/internal/config"
ADMIN: Final = (METRICS, b"/internal", b"/admin")


class Pages(Protocol):
    """What serves the pages; `asgi.AsgiHandler` is one."""

    def __call__(self, exchange: Exchange, principal: Principal | None = None) -> Awaitable[None]:
        """Serve one request, of somebody."""
        ...


Guard = Callable[[bytes, bytes], Principal | None]
"""Says who may read the page at this path with this credential, None where it is open; raises as `Gate.admit`."""


class GuardedPages:
    """Pages that are served to whom a guard lets in."""

    def __init__(self, pages: Pages, guard: Guard, turned_away: TurnedAway) -> None:
        self._pages = pages
        self._guard = guard
        self._turned_away = turned_away

    def __call__(self, exchange: Exchange, waited: bool = False) -> Awaitable[None] | None:
        """Serve one request, or refuse it before its body is read.

        `waited` says that nobody waits once more to find out who asks.
        """
        try:
            principal = self._guard(path_of(exchange.target), find_credential(exchange.headers))
        except Undecided as undecided:
            if not waited:
                return self._serve_later(exchange, undecided)
            self._turn_away(exchange, undecided.otherwise)
        except GatewayError as error:
            self._turn_away(exchange, error)
        else:
            return self._pages(exchange, principal)
        return None

    async def _serve_later(self, exchange: Exchange, undecided: Undecided) -> None:
        await undecided.issuer.learn()
        serving = None if exchange.gone else self(exchange, waited=True)
        if serving is not None:
            await serving

    def _turn_away(self, exchange: Exchange, error: GatewayError) -> None:
        request_id = self._turned_away.request_id(exchange.headers)
        target = exchange.target.partition(b"?")[0][:MAX_ROUTE].decode("latin-1")
        self._turned_away.note(Reason.of(error), error, request_id, target)
        respond_error(exchange, error, request_id, error_writer(exchange.target, exchange.headers))


class ApiGuard:
    """Guards the pages beside inference; with `admin` those of the admin are among them."""

    def __init__(self, gate: Gate, current: Callable[[], Runtime | None], admin: Guard | None = None) -> None:
        self._gate = gate
        self._current = current
        self._admin = admin

    def __call__(self, path: bytes, credential: bytes) -> Principal | None:
        """Say who may read it."""
        if path in OPEN:
            return None
        if self._admin is not None and is_admin(path):
            return self._admin(path, credential)
        runtime = self._current()
        if runtime is not None:
            return self._gate.admit(credential, runtime.keyring)
        try:
            return self._gate.admit(credential, NO_KEYS)
        except Unauthenticated:
            if not credential:
                raise
            # NB: the config has the keys, and it may be one of them: who hears of a wrong key does not try it again.
            raise Unconfigured from None


class AdminGuard:
    """Guards the admin pages.

    Without a file for the key only the paths in `unkeyed` are open. Until there is a key in the file `/internal/config`
    is one of those on a port of its own (`apart`): an operator from before the key acknowledges by it, and so does a
    new one whose key the kubelet has not brought yet. It tells hashes and names of models; nothing that is told about
    tenants is ever open.
    """

    def __init__(self, key: AdminKey, *, apart: bool, metrics_open: bool, everybody: bool) -> None:
        self._key = key
        self._always = HEALTH | ({METRICS} if apart and metrics_open else frozenset())
        self._unkeyed = self._always | (frozenset((METRICS, CONFIG)) if apart or everybody else frozenset())

    def __call__(self, path: bytes, credential: bytes) -> Principal | None:
        """Say who may read it: nobody in particular, or whoever has the key."""
        standing = self._key.standing
        open_now = self._unkeyed if standing in (Standing.NOT_ASKED_FOR, Standing.ABSENT) else self._always
        if path not in open_now:
            self._key.check(credential)
        return None

    def tells(self, credential: bytes) -> bool:
        """Whether this is somebody who may know what is wrong with the gateway."""
        try:
            self(CONFIG, credential)
        except GatewayError:
            return False
        return True


def is_admin(path: bytes) -> bool:
    """Whether a path of the API's port is one of the admin."""
    return any(path == root or path.startswith(root + b"/") for root in ADMIN)


def principal_of(request: Request) -> Principal:
    """Give who asks for a page that is not open to all."""
    principal: Principal = request.state.principal
    return principal
