"""The two ASGI applications: the API, and the admin pages when they have a port of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from capstan_gateway.api.inference import ROUTES, InferenceHandler
from capstan_gateway.api.pages import admin_routes, health_routes, install_error_handlers, model_routes
from capstan_gateway.pipeline.context import Receive, Scope, Send
from capstan_gateway.wiring import Gateway


class GatewayApp(FastAPI):
    """FastAPI for everything, except that inference requests go straight to their handler.

    Routing and middleware of a framework cost more than all of the gateway's own work, so these paths never see them.
    """

    def __init__(self, inference: Mapping[str, InferenceHandler], **options: Any) -> None:
        super().__init__(**options)
        self._inference = dict(inference)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http":
            handler = self._inference.get(scope["path"])
            if handler is not None:
                await handler(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(gateway: Gateway) -> GatewayApp:
    """Make the API's application; its lifespan runs the gateway's background work."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    inference = {
        route.path: InferenceHandler(
            route,
            gateway.deps,
            current=gateway.current,
            requests=gateway.requests,
            ids=gateway.ids,
            draining=gateway.is_draining,
        )
        for route in ROUTES
    }
    app = GatewayApp(inference, title="Capstan gateway", lifespan=lifespan, redoc_url=None)
    app.include_router(model_routes(gateway.current))
    app.include_router(health_routes(gateway.not_ready))
    if gateway.settings.admin_port is None:
        app.include_router(admin_routes(gateway.store, gateway.metrics))
    install_error_handlers(app, gateway.ids)
    return app


def create_admin_app(gateway: Gateway) -> FastAPI:
    """Make the application of the admin port."""
    app = FastAPI(title="Capstan gateway admin", redoc_url=None)
    app.include_router(health_routes(gateway.not_ready))
    app.include_router(admin_routes(gateway.store, gateway.metrics))
    install_error_handlers(app, gateway.ids)
    return app
