"""The command `capstan-worker`: one of `simulator`, `vllm`, `sidecar`, `score`.

Exit codes: 0 after a drain, 1 an error, 2 wrong arguments, 3 the engine is not installed, 128 + the
signal when it was interrupted while the model was loading.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from capstan_process.logs import configure_logging
from capstan_process.settings import SettingsError, add_flags, read_settings
from capstan_worker.errors import UsageError, WorkerError
from capstan_worker.queue.settings import QueueSettings, checked_queue
from capstan_worker.scoring.settings import ScoreSettings, checked_score
from capstan_worker.settings import PREFIX, SidecarSettings, VllmSettings, WorkerSettings
from capstan_worker.simulator.settings import SimulatorSettings, checked

T = TypeVar("T")

_VLLM_USAGE: Final = "capstan-worker vllm [flags] -- MODEL [arguments of `vllm serve`]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give the exit code."""
    try:
        options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        worker = read(WorkerSettings, options)
        configure_logging(level=worker.log_level, form=worker.log_format)
        _COMMANDS[options.command](options, worker)
    except WorkerError as error:
        return _refuse(error, error.exit_code)
    except SettingsError as error:
        return _refuse(error, UsageError.exit_code)
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Part a command line into the command and its flags, not looked into; `rest` is what stands behind a `--`."""
    parser = argparse.ArgumentParser(prog="capstan-worker", description="Runs a model's engine, or stands beside it.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_flags(
        commands.add_parser("simulator", help="an engine that runs no model"),
        SimulatorSettings,
        WorkerSettings,
        QueueSettings,
    )
    add_flags(
        commands.add_parser("vllm", help="vLLM in this process", usage=_VLLM_USAGE),
        VllmSettings,
        WorkerSettings,
        QueueSettings,
    )
    add_flags(
        commands.add_parser("sidecar", help="stands beside an engine at a URL"),
        SidecarSettings,
        WorkerSettings,
        QueueSettings,
    )
    add_flags(commands.add_parser("score", help="judges sampled answers of production"), ScoreSettings, WorkerSettings)
    own, rest = _split(arguments)
    options = parser.parse_args(own)
    if options.command != "vllm" and rest is not None:
        raise UsageError(f"`{options.command}` takes nothing after `--`")
    options.rest = rest
    return options


def read(cls: type[T], options: argparse.Namespace) -> T:
    """Read settings of the worker from these flags and the environment. Raises SettingsError."""
    return read_settings(cls, prefix=PREFIX, environ=os.environ, flags=options)


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """Cut at the first `--`: what follows belongs to vLLM and is not looked at here."""
    if "--" not in arguments:
        return arguments, None
    place = list(arguments).index("--")
    return arguments[:place], arguments[place + 1 :]


def _simulator(options: argparse.Namespace, worker: WorkerSettings) -> None:
    settings = checked(read(SimulatorSettings, options))
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.simulator.command import SimulatorProcess

    queue = checked_queue(read(QueueSettings, options))
    process = SimulatorProcess(settings, worker, load_prefixes(worker.prefixes), queue)
    run(process.run())


def _vllm(options: argparse.Namespace, worker: WorkerSettings) -> None:
    settings = read(VllmSettings, options)
    queue = checked_queue(read(QueueSettings, options))
    from capstan_worker.engine.vllm import parse_serve_arguments, publishing
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.vllm_command import VllmProcess

    prefixes = load_prefixes(worker.prefixes)
    args = parse_serve_arguments(options.rest or (), host=worker.host, port=settings.port)
    with publishing(args, wanted=settings.kv_events) as published:
        run(VllmProcess(args, worker, prefixes, port=settings.port, queue=queue, published=published).run())


def _sidecar(options: argparse.Namespace, worker: WorkerSettings) -> None:
    settings = read(SidecarSettings, options)
    queue = checked_queue(read(QueueSettings, options))
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.sidecar import SidecarProcess

    run(SidecarProcess(settings, worker, load_prefixes(worker.prefixes), queue).run())


def _score(options: argparse.Namespace, worker: WorkerSettings) -> None:
    settings = checked_score(read(ScoreSettings, options))
    from capstan_worker.scoring.process import ScoreProcess
    from capstan_worker.serve import run

    run(ScoreProcess(settings, worker).run())


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"capstan-worker: {error}\n")
    return code


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, WorkerSettings], None]] = {
    "simulator": _simulator,
    "vllm": _vllm,
    "sidecar": _sidecar,
    "score": _score,
}


if __name__ == "__main__":
    sys.exit(main())
