"""What the two ports serve: the inference routes beside the pages of the API, and the admin pages."""

from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, FastAPI

from capstan_gateway.composition import Gateway
from capstan_gateway.inference.azure import AzurePaths
from capstan_gateway.inference.handler import InferenceHandler
from capstan_gateway.inference.inside import InsideAsks
from capstan_gateway.inference.routes import CHECKS, MODERATIONS, ROUTES
from capstan_gateway.pages.anthropic import error_writer
from capstan_gateway.pages.application import admin_routes, health_routes, install_error_handlers, model_routes
from capstan_gateway.pages.asgi import AsgiHandler
from capstan_gateway.pages.batches import batch_routes
from capstan_gateway.pages.caches import cache_routes
from capstan_gateway.pages.feedback import feedback_routes
from capstan_gateway.pages.file_bytes import FilePages
from capstan_gateway.pages.files import file_routes
from capstan_gateway.pages.guard import AdminGuard, ApiGuard, Guard, GuardedPages, Pages
from capstan_gateway.pages.message_batches import MessageBatchPages, message_batch_routes
from capstan_gateway.pages.opinions import opinion_routes
from capstan_gateway.pages.responses import response_routes
from capstan_gateway.pages.usage import usage_routes
from capstan_gateway.pipeline.guards.check import check
from capstan_gateway.pipeline.guards.moderations import answer_moderation
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.request import Route
from capstan_gateway.serving.cors import CorsSettings
from capstan_gateway.serving.listener import Listener
from capstan_gateway.serving.service import Service, ServingLimits
from capstan_gateway.settings import Settings


def api_listener(gateway: Gateway) -> Listener:
    """Make the listener of the API. Inference requests go straight to their handlers: routing and middleware of a
    framework cost more than all of the gateway's own work."""
    own: dict[Route, AnswerFunction] = {MODERATIONS: partial(answer_moderation, gateway.deps), CHECKS: check}
    inference = {
        route.path.encode(): InferenceHandler(
            route,
            gateway.deps,
            store=gateway.store,
            requests=gateway.requests,
            ids=gateway.ids,
            turned_away=gateway.turned_away,
            gate=gateway.gate,
            answer=own.get(route),
        )
        for route in ROUTES
    }
    inside = _inside(gateway, inference)
    if gateway.background is not None:
        gateway.background.begin(inside)
    if gateway.batches is not None:
        gateway.batches.begin(inside)
    admin = admin_guard(gateway, apart=False) if gateway.settings.admin_port is None else None
    guard = ApiGuard(gateway.gate, gateway.current, admin)
    return _listener(gateway, inference, create_pages(gateway), guard, "api")


def _inside(gateway: Gateway, handlers: Mapping[bytes, InferenceHandler]) -> InsideAsks:
    return InsideAsks(
        handlers, current=gateway.current, gate=gateway.gate, requests=gateway.requests, budget=gateway.memory,
        spare=gateway.settings.batch_spare_requests, queued=gateway.queues is not None,
    )  # fmt: skip


def admin_listener(gateway: Gateway) -> Listener:
    """Make the listener of the admin port."""
    return _listener(gateway, {}, create_admin_pages(gateway), admin_guard(gateway, apart=True), "admin")


def admin_guard(gateway: Gateway, *, apart: bool) -> AdminGuard:
    """Make who guards the admin pages, on a port of their own or on the API's."""
    settings = gateway.settings
    return AdminGuard(
        gateway.admin_key,
        apart=apart,
        metrics_open=not settings.metrics_need_admin_key,
        everybody=settings.insecure_no_auth,
    )


def create_pages(gateway: Gateway) -> FastAPI:
    """Make the application beside the inference routes."""
    app = FastAPI(title="Capstan gateway", redoc_url=None)
    app.include_router(model_routes(gateway.current))
    app.include_router(feedback_routes(gateway.caches, gateway.feedback))
    app.include_router(
        response_routes(gateway.stores.responses, gateway.background, gateway.memory, gateway.deps.executor)
    )
    app.include_router(file_routes(None if gateway.batches is None else gateway.batches.files))
    app.include_router(batch_routes(gateway.batches))
    app.include_router(message_batch_routes(gateway.batches))
    app.include_router(health_routes(gateway.not_ready, gateway.notes, admin_guard(gateway, apart=False).tells))
    if gateway.settings.admin_port is None:
        app.include_router(_reports(gateway))
        app.include_router(cache_routes(gateway.caches, gateway.current))
        app.include_router(usage_routes(gateway.stores.usage, gateway.deps.executor))
        app.include_router(opinion_routes(gateway.feedback))
    install_error_handlers(app, gateway.ids)
    return app


def create_admin_pages(gateway: Gateway) -> FastAPI:
    """Make the application of the admin port."""
    app = FastAPI(title="Capstan gateway admin", redoc_url=None)
    # A port of its own is for those who run the gateway.
    app.include_router(health_routes(gateway.not_ready, gateway.notes, lambda credential: True))  # noqa: ARG005
    app.include_router(_reports(gateway))
    app.include_router(cache_routes(gateway.caches, gateway.current))
    app.include_router(usage_routes(gateway.stores.usage, gateway.deps.executor))
    app.include_router(opinion_routes(gateway.feedback))
    install_error_handlers(app, gateway.ids)
    return app


def _reports(gateway: Gateway) -> APIRouter:
    reports = gateway.limits.report, gateway.guards.report, gateway.caches.report
    more = gateway.demand.report, gateway.experiments, gateway.tries.report
    return admin_routes(gateway.store, gateway.metrics, *reports, *more)


def cors_settings(settings: Settings) -> CorsSettings | None:
    """What browsers' pages of other origins may do; None: nothing."""
    if not settings.cors_origins:
        return None
    return CorsSettings(
        origins=settings.cors_origins,
        methods=settings.cors_methods,
        headers=settings.cors_headers,
        exposed=settings.cors_exposed_headers,
        max_age_seconds=settings.cors_max_age_seconds,
    )


def _listener(
    gateway: Gateway, handlers: Mapping[bytes, InferenceHandler], pages: FastAPI, guard: Guard, port: str
) -> Listener:
    settings, metrics = gateway.settings, gateway.metrics
    connections = metrics.connections.at(port)

    def on_cut_off(reason: str) -> None:
        metrics.cut_off.at(reason).value += 1

    def read_gauge() -> None:
        connections.value = len(service.connections)

    limits = ServingLimits(
        max_head_bytes=settings.max_header_bytes,
        max_connections=settings.max_connections,
        write_seconds=settings.write_seconds,
        keep_alive_seconds=settings.client_keep_alive_seconds,
    )
    served: Pages = AsgiHandler(pages)
    if port == "api":
        served = FilePages(served, None if gateway.batches is None else gateway.batches.files, gateway.ids)
        served = MessageBatchPages(served, gateway.batches, gateway.ids)
    guarded = GuardedPages(served, guard, gateway.turned_away)
    find = {"find": AzurePaths(handlers, guarded)} if handlers else {}
    service = Service(
        handlers,
        guarded,
        limits,
        memory=gateway.memory,
        turned_away=gateway.turned_away,
        cors=cors_settings(settings) if port == "api" else None,
        on_cut_off=on_cut_off,
        error_writer=error_writer,
        **find,
    )
    metrics.before_collect.append(read_gauge)
    return Listener(service)
