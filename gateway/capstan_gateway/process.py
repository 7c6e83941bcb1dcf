"""The process: listen, serve until told to stop, drain, end."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from capstan_gateway.composition import Gateway
from capstan_gateway.serving.listener import Listener
from capstan_gateway.settings import Settings
from capstan_gateway.surface import admin_listener, api_listener
from capstan_process.events import first_of
from capstan_process.settings import SettingsError

FAILED: Final = 1


async def serve(settings: Settings, *, make: Callable[[Settings], Gateway] = Gateway) -> int:
    """Serve until SIGTERM or SIGINT; then drain, finish what runs, and give the exit code.

    A second signal ends the grace at once. Work in the background that fails again and again ends the process in the
    same way, with another exit code. `make` gives another build of the gateway, with policies of its own.
    """
    gateway = make(settings)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with gateway.running():
        api = await listen(api_listener(gateway), settings, settings.port)
        admin = None
        if settings.admin_port is not None:
            admin = await listen(admin_listener(gateway), settings, settings.admin_port)
        await first_of(stop, gateway.jobs.is_given_up)
        gateway.drain()
        await _either(hurry, settings.drain_seconds)
        finishing = asyncio.create_task(_finish(gateway, hurry, settings.grace_seconds))
        await api.close(grace_seconds=settings.grace_seconds, hurry=hurry)
        await finishing
        if admin is not None:
            # It stays until the API is done, so that the last metrics can be read.
            await admin.close(grace_seconds=1.0, hurry=hurry)
    return FAILED if gateway.jobs.given_up is not None else 0


async def _finish(gateway: Gateway, hurry: asyncio.Event, seconds: float) -> None:
    """Return when nothing is asked any more for those who do not wait, the time is over, or there is a hurry."""
    finishing = asyncio.create_task(gateway.finish())
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait((finishing, hurrying), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in (finishing, hurrying):
        task.cancel()


async def listen(listener: Listener, settings: Settings, port: int) -> Listener:
    """Open a port. Raises SettingsError when it cannot be had."""
    try:
        await listener.listen(settings.host, port)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host}:{port}: {error.strerror or error}") from error
    return listener


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
