"""The command `capstan-worker`: one of `simulator`, `vllm`, `sidecar`.

Exit codes: 0 after a drain, 1 an error, 2 wrong arguments, 3 the engine is not installed, 128 + the
signal when it was interrupted while the model was loading.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from capstan_worker.engine.kinds import EngineKind
from capstan_worker.errors import UsageError, WorkerError
from capstan_worker.logs import set_up_logging
from capstan_worker.settings import (
    WorkerSettings,
    add_worker_arguments,
    read_worker_settings,
    set_defaults_from_environment,
)
from capstan_worker.simulator.settings import TASKS

log = logging.getLogger(__name__)
_VLLM_USAGE = "capstan-worker vllm [flags] -- MODEL [arguments of `vllm serve`]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give the exit code."""
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        worker = read_worker_settings(options)
        set_up_logging(worker.log_level, worker.log_format)
        _COMMANDS[options.command](options, worker)
    except WorkerError as error:
        sys.stderr.write(f"capstan-worker: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="capstan-worker", description="Runs a model's engine, or stands beside it.")
    commands = parser.add_subparsers(dest="command", required=True)
    simulator = commands.add_parser("simulator", help="an engine that runs no model")
    simulator.add_argument("--model", required=True, help="the name that the engine knows the model by")
    simulator.add_argument("--task", choices=TASKS, default="chat")
    simulator.add_argument("--port", type=int, default=8000, help="the OpenAI API")
    add_worker_arguments(simulator)
    _add_simulator(simulator)
    vllm = commands.add_parser("vllm", help="vLLM in this process", usage=_VLLM_USAGE)
    vllm.add_argument("--port", type=int, default=8000, help="the OpenAI API")
    add_worker_arguments(vllm)
    sidecar = commands.add_parser("sidecar", help="stands beside an engine at a URL")
    sidecar.add_argument("--engine", required=True, choices=[kind.value for kind in EngineKind])
    sidecar.add_argument("--engine-url", required=True, help="base URL without the /v1, such as http://127.0.0.1:8000")
    sidecar.add_argument("--model", required=True, help="the name that the engine knows the model by")
    sidecar.add_argument("--task", choices=TASKS, default="chat")
    add_worker_arguments(sidecar)
    for command in (simulator, vllm, sidecar):
        set_defaults_from_environment(command)
    own, rest = _split(arguments)
    options = parser.parse_args(own)
    if options.command != "vllm" and rest is not None:
        raise UsageError(f"`{options.command}` takes nothing after `--`")
    options.rest = rest
    return options


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """Cut at the first `--`: what follows belongs to vLLM and is not looked at here."""
    if "--" not in arguments:
        return arguments, None
    place = list(arguments).index("--")
    return arguments[:place], arguments[place + 1 :]


def _add_simulator(parser: argparse.ArgumentParser) -> None:
    from capstan_worker.simulator.settings import add_simulator_arguments

    add_simulator_arguments(parser)


def _simulator(options: argparse.Namespace, worker: WorkerSettings) -> None:
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.simulator.command import SimulatorProcess
    from capstan_worker.simulator.settings import read_simulator_settings

    settings = read_simulator_settings(options)
    process = SimulatorProcess(settings, worker, load_prefixes(worker.prefixes))
    run(process.run())


def _vllm(options: argparse.Namespace, worker: WorkerSettings) -> None:
    from capstan_worker.engine.vllm import parse_serve_arguments
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.vllm_command import VllmProcess

    prefixes = load_prefixes(worker.prefixes)
    args = parse_serve_arguments(options.rest or (), host=worker.host, port=options.port)
    run(VllmProcess(args, worker, prefixes, port=options.port).run())


def _sidecar(options: argparse.Namespace, worker: WorkerSettings) -> None:
    from capstan_worker.prefixes import load_prefixes
    from capstan_worker.serve import run
    from capstan_worker.sidecar import SidecarProcess, SidecarSettings

    if not options.engine_url.startswith(("http://", "https://")):
        raise UsageError(f"--engine-url must begin with http:// or https://, not '{options.engine_url}'")
    settings = SidecarSettings(
        kind=EngineKind(options.engine), url=options.engine_url.rstrip("/"), model=options.model, task=options.task
    )
    run(SidecarProcess(settings, worker, load_prefixes(worker.prefixes)).run())


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, WorkerSettings], None]] = {
    "simulator": _simulator,
    "vllm": _vllm,
    "sidecar": _sidecar,
}


if __name__ == "__main__":
    sys.exit(main())
