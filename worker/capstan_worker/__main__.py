"""The command `capstan-worker`: one of `simulator`, `vllm`, `sidecar`.

Exit codes: 0 after a drain, 1 an error, 2 wrong arguments, 3 the engine is not installed.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from capstan_worker.errors import WorkerError
from capstan_worker.logs import set_up_logging
from capstan_worker.settings import (
    WorkerSettings,
    add_worker_arguments,
    read_worker_settings,
    set_defaults_from_environment,
)
from capstan_worker.simulator.settings import TASKS

log = logging.getLogger(__name__)


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
    for command in (simulator,):
        set_defaults_from_environment(command)
    return parser.parse_args(arguments)


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


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, WorkerSettings], None]] = {"simulator": _simulator}


if __name__ == "__main__":
    sys.exit(main())
