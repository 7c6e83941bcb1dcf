"""Models, health and admin: what FastAPI serves, and its own errors in the OpenAI envelope."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from capstan_contract.caches import CachesReport
from capstan_contract.config import ConfigReport
from capstan_contract.demand import DEMAND_PATH, DemandReport
from capstan_contract.guards import GuardsReport
from capstan_contract.limits import LimitsReport
from capstan_contract.names import REQUEST_ID_HEADER
from capstan_contract.tracks import EXPERIMENTS_PATH, TRACKS_PATH, ExperimentsReport, TracksReport
from capstan_gateway.config.runtime import Runtime, model_card
from capstan_gateway.config.store import ConfigStore
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    Overloaded,
    RouteNotFound,
)
from capstan_gateway.headers import Header
from capstan_gateway.identity.credential import find_credential
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.pages.anthropic import anthropic_card, list_page, speaks_anthropic
from capstan_gateway.pages.guard import principal_of
from capstan_gateway.pipeline.guards.view import guards_of_model
from capstan_gateway.serving.refusals import error_response
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.telemetry.metrics import Metrics

JSON: Final = "application/json"


def model_routes(current: Callable[[], Runtime | None]) -> APIRouter:
    """GET /v1/models: every configured name that who asks may use, also of models that are at zero replicas."""
    router = APIRouter(tags=["models"])

    def _seen(request: Request) -> Runtime | None:
        runtime = current()
        return None if runtime is None else runtime.seen_by(principal_of(request))

    @router.get("/")
    @router.get("/api/hello")
    async def root() -> dict[str, str]:
        """Say what answers here: agents ask before their first request."""
        return {"name": "capstan"}

    @router.get("/v1/models")
    async def list_models(request: Request) -> Response:
        """List the models that requests may name, in the form of the API that the client speaks."""
        runtime = _seen(request)
        if speaks_anthropic(request):
            query = request.query_params
            models = () if runtime is None else tuple(runtime.listed())
            listing = list_page(
                models, limit=query.get("limit"), after=query.get("after_id"), before=query.get("before_id")
            )
            return Response(orjson.dumps(listing), media_type=JSON)
        body = runtime.listing if runtime is not None else b'{"object":"list","data":[]}'
        return Response(body, media_type=JSON)

    @router.get("/v1/models/{name:path}")
    async def get_model(request: Request, name: str) -> dict[str, object]:
        """Describe one model."""
        name = unquote(name)
        runtime = _seen(request)
        model = None if runtime is None else runtime.find(name)
        if model is not None and speaks_anthropic(request):
            return anthropic_card(name, model)
        card = None if runtime is None else model_card(runtime, name)
        if card is None:
            raise ModelNotFound(f"the model `{name}` does not exist", param="model")
        return card

    return router


def health_routes(
    not_ready: Callable[[], str | None], notes: Callable[[], Sequence[str]], tells: Callable[[bytes], bool]
) -> APIRouter:
    """GET /healthz: the process works. GET /readyz: it should get requests.

    Details name issuers, objects and work that failed: only whom `tells` trusts by the credential is told.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process works."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz(request: Request, response: Response) -> dict[str, str | list[str]]:
        """Say whether requests should come here, and why not; and what is wrong that keeps none away."""
        told = tells(find_credential(request.headers.raw))
        reason, noted = not_ready(), list(notes()) if told else []
        more: dict[str, str | list[str]] = {"notes": noted} if noted else {}
        if reason is None:
            return {"status": "ready", **more}
        response.status_code = 503
        return {"status": "not ready", "reason": reason if told else reason.partition(":")[0], **more}

    return router


def admin_routes(
    store: ConfigStore,
    metrics: Metrics,
    limits: Callable[[], LimitsReport],
    guards: Callable[[], GuardsReport],
    caches: Callable[[], CachesReport],
    demand: Callable[[], DemandReport],
    experiments: Callable[[], Awaitable[ExperimentsReport]],
    tracks: Callable[[], TracksReport],
) -> APIRouter:
    """GET /metrics for Prometheus, GET /internal/config, /internal/limits, /internal/guards, /internal/caches,
    /internal/demand and /internal/tracks for the operator, and /internal/guards/model and /internal/experiments for
    people."""
    router = APIRouter(tags=["admin"])
    threads = Threads("metrics", queued=16)

    @router.get("/metrics")
    async def get_metrics() -> Response:
        """All metrics as Prometheus reads them."""
        metrics.tasks.at().value = len(asyncio.all_tasks())
        try:
            page = await threads.run(metrics.render)
        except Busy:
            raise Overloaded("too many readers of the metrics; try again", headers=()) from None
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    @router.get("/internal/config")
    async def get_config_report() -> ConfigReport:
        """Say which config is in use, and why the newest one is not."""
        return store.report()

    @router.get("/internal/limits")
    async def get_limits_report() -> LimitsReport:
        """Say how much of each RateLimitPolicy is used, and of nobody by name."""
        try:
            return await threads.run(limits)
        except Busy:
            raise Overloaded("too many readers of the limits; try again", headers=()) from None

    @router.get("/internal/guards")
    async def get_guards_report() -> GuardsReport:
        """Say what each guard of each GuardPolicy has decided, and of nobody by name."""
        return guards()

    @router.get("/internal/caches")
    async def get_caches_report() -> CachesReport:
        """Say what each CachePolicy has done, and of no request."""
        return caches()

    @router.get(DEMAND_PATH)
    async def get_demand_report() -> DemandReport:
        """Say how much is asked of each model by way of this replica, and how its queue stands."""
        return demand()

    @router.get(EXPERIMENTS_PATH)
    async def get_experiments_report() -> ExperimentsReport:
        """Say how the members of weighted routers did, and of nobody by name."""
        return await experiments()

    @router.get(TRACKS_PATH)
    async def get_tracks_report() -> TracksReport:
        """Say what the two revisions of each model have done of which one is tried, and of no request."""
        return tracks()

    @router.get("/internal/guards/model")
    async def get_guards_of_model(name: str) -> dict[str, Any]:
        """Say which guards of which policies are in force on a model, by the name that clients call it or its id:
        in the order in which they see a request. They are the same whoever asks."""
        runtime = store.runtime
        full = None if runtime is None else runtime.full
        model = None if full is None else full.find(name) or full.by_id.get(name)
        if full is None or model is None:
            raise ModelNotFound("there is no such model", param="name")
        return guards_of_model(model, full.by_id)

    return router


def install_error_handlers(app: FastAPI, ids: RequestIds) -> None:
    """Answer everything that FastAPI itself refuses in the OpenAI envelope."""

    def respond(request: Request, error: GatewayError) -> Response:
        given = request.headers.get(REQUEST_ID_HEADER, "").encode("latin-1")
        dialect = MESSAGES if speaks_anthropic(request) else None
        status, headers, body = error_response(error, ids.accept(given), dialect)
        response = Response(body, status_code=status)
        response.raw_headers = headers
        return response

    async def on_gateway_error(request: Request, error: Exception) -> Response:
        return respond(request, error if isinstance(error, GatewayError) else GatewayError("the gateway failed"))

    async def on_http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        path = f"{request.method} {request.url.path[:200]}"
        if status == 404:
            return respond(request, RouteNotFound(f"unknown route: {path}"))
        if status == 405:
            return respond(request, MethodNotAllowed(f"method not allowed: {path}", headers=(_allow(error),)))
        return respond(request, InvalidRequest("the request cannot be served", status=status))

    async def on_validation_error(request: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) and error.errors() else {}
        field = ".".join(str(part) for part in first.get("loc", ())[1:]) or None
        return respond(request, InvalidRequest(str(first.get("msg", "invalid request")), param=field))

    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_gateway_error)


def _allow(error: Exception) -> Header:
    """Say which methods there are. Whoever takes GET takes HEAD."""
    given = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    methods = {method.strip() for method in given.split(",") if method.strip()}
    return b"allow", ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set()))).encode()
