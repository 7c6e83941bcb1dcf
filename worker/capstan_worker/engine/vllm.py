"""vLLM's public pieces that the worker uses, in one place: what moves between its releases is here and nowhere else.

vLLM is imported only when it is asked for: the simulator and the sidecar do without it.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from capstan_worker.asgi import App
from capstan_worker.errors import EngineError, EngineMissing, UsageError
from capstan_worker.kv_events.subscriber import REPLAYED_BATCHES, Addresses

log = logging.getLogger(__name__)
INSTALL_HINT = (
    "vLLM is not installed in this Python. Install vllm 0.32 (NVIDIA GPUs: `pip install vllm`; CPU: "
    "`scripts/vllm_venv.py` makes an environment), or use the Simulator: `capstan-worker simulator`"
)
_OTHER_SERVERS = frozenset(
    {"--headless", "--api-server-count", "-asc", "--uds", "--enable-ssl-refresh", "--grpc", "--grpc-port"}
)
_ELSEWHERE = "run vLLM's own image (`engine.image`) with a sidecar for that"


@dataclass(frozen=True)
class RunningVllm:
    """An engine that is loaded, and its OpenAI API."""

    app: App
    model: str
    """The name that requests use."""
    generates: bool
    """Whether it writes text (and so has prefixes to warm)."""
    places: int | None
    """Requests that run at once."""
    died: Callable[[], bool]


def parse_serve_arguments(arguments: Sequence[str], *, host: str, port: int) -> argparse.Namespace:
    """Read the arguments as `vllm serve` does. Raises EngineMissing, UsageError; argparse itself exits with code 2."""
    refuse_other_servers(arguments)
    try:
        from vllm.entrypoints.launchers.cli_args import (  # type: ignore[import-not-found]
            make_arg_parser,
            validate_parsed_serve_args,
        )
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup  # type: ignore[import-not-found]
        from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]
    except ImportError as error:
        raise _missing(error) from error
    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="capstan-worker vllm --"))
    args: argparse.Namespace = parser.parse_args(list(arguments))
    if args.model_tag is not None:
        args.model = args.model_tag
    elif not any(item == "--model" or item.startswith("--model=") or item == "--config" for item in arguments):
        raise UsageError("the model is missing: capstan-worker vllm [flags] -- MODEL [arguments of `vllm serve`]")
    args.host, args.port = host, port
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError, KeyError) as error:
        raise UsageError(f"vLLM: {error}") from error
    return args


@contextlib.contextmanager
def publishing(args: argparse.Namespace, *, wanted: bool) -> Iterator[Addresses | None]:
    """Have vLLM publish which blocks it holds, between processes of this machine, and say where; None if not wanted.

    Raises UsageError beside arguments with which it publishes elsewhere, or more than one engine does.
    """
    if not wanted:
        yield None
        return
    if args.kv_events_config is not None:
        raise UsageError("--kv-events on must not be given together with vLLM's --kv-events-config")
    if args.data_parallel_size > 1:
        raise UsageError("--kv-events on needs vLLM's --data-parallel-size to be 1: each rank has blocks of its own")
    from vllm.config.kv_events import KVEventsConfig  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="capstan-kv-", ignore_cleanup_errors=True) as folder:
        addresses = Addresses(f"ipc://{folder}/events", f"ipc://{folder}/replay")
        args.kv_events_config = KVEventsConfig(
            enable_kv_cache_events=True,
            publisher="zmq",
            endpoint=addresses.events,
            replay_endpoint=addresses.replay,
            buffer_steps=REPLAYED_BATCHES,
        )
        yield addresses


@asynccontextmanager
async def run_vllm(args: argparse.Namespace) -> AsyncIterator[RunningVllm]:
    """Load the model, build the API, and end both.

    Raises UsageError when vLLM does not want its arguments, EngineError when the engine does not start.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found]
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state  # type: ignore[import-not-found]
    from vllm.entrypoints.launchers.api_server.entry import (  # type: ignore[import-not-found]
        build_async_engine_client_from_engine_args,
    )
    from vllm.entrypoints.launchers.app import build_app  # type: ignore[import-not-found]

    async with AsyncExitStack() as stack:
        with _interruptible():
            try:
                engine_args = AsyncEngineArgs.from_cli_args(args)
                context = build_async_engine_client_from_engine_args(engine_args)
                engine = await stack.enter_async_context(context)
            except (ValueError, TypeError, KeyError, OSError) as error:
                raise UsageError(f"vLLM does not start with these arguments: {_first_lines(error)}") from error
            except RuntimeError as error:
                raise EngineError(f"vLLM did not start: {_first_lines(error)}") from error
        tasks = await engine.get_supported_tasks()
        app = build_app(args, tasks, engine.model_config)
        await init_app_state(engine, app.state, args, tasks)
        server = _Server()
        app.state.server = server
        # Its lifespan logs the engine's statistics. It deletes app.state at its end, so it ends before the engine.
        await stack.enter_async_context(app.router.lifespan_context(app))
        names = args.served_model_name or [args.model]
        yield RunningVllm(
            app=app,
            model=names[0],
            generates="generate" in tasks,
            places=_places(engine),
            died=lambda: bool(server.should_exit or engine.errored),
        )


def render_vllm_metrics() -> bytes:
    """Give vLLM's metrics; before it is imported there are none."""
    import sys

    if "vllm.v1.metrics.prometheus" not in sys.modules:
        return b""
    from prometheus_client import generate_latest
    from vllm.v1.metrics.prometheus import get_prometheus_registry  # type: ignore[import-not-found]

    return generate_latest(get_prometheus_registry())


def keep_alive_seconds() -> float:
    """Give how long vLLM keeps an idle connection."""
    return float(os.environ.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5"))


class _Server:
    """Stands where vLLM expects its uvicorn server: it sets `should_exit` when the engine has died."""

    should_exit = False


def _missing(error: ImportError) -> EngineMissing:
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        return EngineMissing(INSTALL_HINT)
    return EngineMissing(f"this release of vLLM does not fit (0.32 does): {error}")


def refuse_other_servers(arguments: Sequence[str]) -> None:
    """Raise UsageError for arguments that ask for something else than one HTTP server in this process.

    It looks at the arguments as they are, so that the answer comes before the seconds that importing vLLM takes.
    """
    for item in arguments:
        name = item.partition("=")[0].replace("_", "-")
        if name in ("--host", "--port"):
            raise UsageError(f"give {name} before the `--`, not among vLLM's arguments")
        if name in _OTHER_SERVERS or name.startswith("--ssl-"):
            raise UsageError(f"vLLM's {name} is not possible in the worker's process; {_ELSEWHERE}")


def _places(engine: Any) -> int | None:
    number = getattr(getattr(engine.vllm_config, "scheduler_config", None), "max_num_seqs", None)
    return int(number) if number else None


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3]) or type(error).__name__


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loading of a model, which does not return to the event loop for minutes.

    NB: the process ends on the spot. An exception instead would be raised wherever vLLM happens to wait, and get lost
    there. Nothing has been served yet, so nothing is cut; vLLM's own processes end with theirs.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            child.terminate()
        log.warning("interrupted while the model was loading")
        os._exit(128 + number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
