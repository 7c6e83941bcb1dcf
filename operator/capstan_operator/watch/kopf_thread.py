"""One run of kopf, in a thread and an event loop of its own.

kopf takes the loop that it runs in for its own: when it ends, it cancels every task that began after it, and when it
does not end in order, it kills the process. Here it may end and begin again as often as it must, while everything else
goes on. What it sees is handed to the operator's loop, one call per event.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import kopf

from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.settings import Settings
from capstan_operator.watch.kopf_wiring import BuildRegistry, Handlers, build_kopf_settings, build_registry
from capstan_operator.watch.memoryless import NoMemories
from capstan_operator.watch.watches import Watches

STOP_SECONDS: Final = 5.0
"""How long an orderly end of kopf is waited for. Its thread does not keep the process alive."""

# NB: it logs each attempt of each failing call, and warns that it leaves signals alone outside of the main thread, as
# it should. What it ends with is raised here, and said once.
for _name in ("kopf._cogs.clients", "kopf._core.reactor.orchestration", "kopf._core.reactor.running"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


async def run_kopf(
    settings: Settings,
    watches: Watches,
    namespace: str | None,
    *,
    build: BuildRegistry = build_registry,
    selectors: Mapping[ApiResource, str] = MappingProxyType({}),
) -> None:
    """Watch one namespace (None: all) until kopf ends, and raise what it ended with. Ends kopf when cancelled.
    `selectors`: see `build_kopf_settings`."""
    run = _Run(settings, _handed_over(watches, asyncio.get_running_loop()), namespace, build, selectors)
    ended = run.start(asyncio.get_running_loop())
    try:
        await asyncio.shield(ended)
    finally:
        run.stop()
        if not ended.done():
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STOP_SECONDS):
                    await asyncio.shield(ended)
    raise RuntimeError("kopf ended")


def _handed_over(watches: Watches, loop: asyncio.AbstractEventLoop) -> Handlers:
    """Give handlers that only pass the event on to the operator's own loop."""
    Handle = Callable[[ApiResource, Mapping[str, Any]], None]

    def over(handle: Handle) -> Handle:
        def pass_on(kind: ApiResource, event: Mapping[str, Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the operator's loop is closed: the process ends
                loop.call_soon_threadsafe(handle, kind, event)

        return pass_on

    return Handlers(
        model=over(watches.model),
        child=over(watches.child),
        gateway=over(watches.gateway),
        api_key=over(watches.api_key),
        policy=over(watches.policy),
        profiles=over(watches.profiles),
    )


class _Run:
    """The thread. Its loop and flag exist once it has begun; a stop that comes before is not lost."""

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers,
        namespace: str | None,
        build: BuildRegistry = build_registry,
        selectors: Mapping[ApiResource, str] = MappingProxyType({}),
    ) -> None:
        self._build = build
        self._selectors = selectors
        self._settings = settings
        self._handlers = handlers
        self._namespace = namespace
        self._lock = threading.Lock()
        self._stopping = False
        self._flag: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Begin; give what is done, in `loop`, when kopf has ended."""
        ended: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if ended.cancelled():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)
                ended.exception()  # whoever waits hears of it; nobody else must

        def work() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(self._operate())
            except Exception as raised:  # noqa: BLE001  # raised again where it is waited for
                error = raised
            except BaseException as raised:  # noqa: BLE001  # a future carries no SystemExit, and no CancelledError
                error = RuntimeError(f"kopf ended: {type(raised).__name__}")
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, error)

        threading.Thread(target=work, name=f"kopf {self._namespace or 'of all namespaces'}", daemon=True).start()
        return ended

    def stop(self) -> None:
        """End kopf, from another thread, wherever it is."""
        with self._lock:
            self._stopping = True
            if self._loop is not None and self._flag is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed already
                    self._loop.call_soon_threadsafe(self._flag.set)

    async def _operate(self) -> None:
        with self._lock:
            flag = self._flag = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            if self._stopping:
                return
        # NB: the flag is raised in any case, else kopf waits 5 s for its own task that waits for it.
        operator = asyncio.create_task(
            kopf.operator(
                registry=self._build(self._settings, self._handlers, on_cleanup=flag.set),
                settings=build_kopf_settings(self._settings, self._selectors),
                memories=NoMemories(),
                standalone=True,
                clusterwide=self._namespace is None,
                namespaces=() if self._namespace is None else (self._namespace,),
                stop_flag=flag,
            ),
            name="kopf",
        )
        await end_in_time(operator, flag, seconds=STOP_SECONDS)


async def end_in_time(operator: asyncio.Task[None], ending: asyncio.Event, *, seconds: float) -> None:
    """Wait until kopf has ended, and raise what it ended with; not much longer once it is `ending`.

    kopf waits for its watches when it ends, and cannot cancel one whose answer has not begun (1.45: the callback that
    should do it runs outside of every task). What is left then is cancelled with the loop. Raises TimeoutError.
    """
    raised = asyncio.create_task(ending.wait(), name="kopf is ending")
    try:
        await asyncio.wait((operator, raised), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((operator,), timeout=seconds)
        if not operator.done():
            raise TimeoutError("kopf did not end when a watch of it failed")
        operator.result()
    finally:
        raised.cancel()
