"""`capstan prices import`: make a price table of LiteLLM's, for hosted models whose manifests say no price."""

import argparse
import asyncio
import functools
import os
import sys
from collections import Counter
from pathlib import Path

import orjson
import yaml

from capstan_operator.desired.litellm_prices import Imported, read_litellm
from capstan_operator.desired.prices import PRICES_NAME, build_table
from capstan_operator.errors import OperatorError
from capstan_operator.names import PRICES_MANAGER
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

MOST_FILE_BYTES = 64 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    importing = actions.add_parser(
        "import", help="read LiteLLM's table and write the prices in it that are usable into a ConfigMap"
    )
    importing.add_argument(
        "file", type=Path, metavar="FILE", help="LiteLLM's model_prices_and_context_window.json, or one of its form"
    )
    importing.add_argument(
        "-n", "--namespace", default=os.environ.get("CAPSTAN_NAMESPACE") or BuildSettings().install_namespace,
        help="that Capstan is installed in (default: %(default)s)",
    )  # fmt: skip
    importing.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    importing.add_argument("--name", default=PRICES_NAME, help="of the ConfigMap (default: %(default)s)")
    importing.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the manifest there (-: print it) and change nothing in the cluster",
    )
    importing.add_argument("-v", "--verbose", action="store_true", help="name every entry that is left out, and why")


def run(arguments: argparse.Namespace) -> int:
    """Import, and say what became of the entries; 1 when nothing was written."""
    try:
        found = read_file(arguments.file)
        manifest = build_table(
            found.prices, name=arguments.name, namespace=arguments.namespace, source=arguments.file.name
        )
        for line in summary(found, verbose=arguments.verbose):
            print(line, file=sys.stderr)
        _write(manifest, arguments.output, arguments.context)
    except ModuleNotFoundError as error:
        print(
            f"error: to write into a cluster needs {error.name}: pip install '.[operator]' in a clone", file=sys.stderr
        )
        return 1
    except (OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read_file(path: Path) -> Imported:
    """Read a table; ValueError or OSError, which name the file, when there is none, or no price in it."""
    if path.stat().st_size > MOST_FILE_BYTES:
        raise ValueError(f"{path}: is larger than {MOST_FILE_BYTES} bytes")
    try:
        found = read_litellm(orjson.loads(path.read_bytes()))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not found.prices:
        raise ValueError(f"{path}: none of its {len(found.refused)} entries has a price that can be used")
    return found


def summary(found: Imported, *, verbose: bool = False) -> list[str]:
    """Say in lines how many entries were read and left out, and why."""
    prices = sum(map(len, found.prices.values()))
    lines = [
        f"{found.read + len(found.refused)} entries: {found.read} read, which are {prices} prices of "
        f"{len(found.prices)} providers; {len(found.refused)} left out:"
    ]
    if verbose:
        return lines + [f"  {name}: {reason}" for name, reason in sorted(found.refused.items())]
    reasons = Counter(reason.split(":", 1)[0] for reason in found.refused.values())
    return lines + [f"{count:7} {reason}" for reason, count in reasons.most_common()]


def _write(manifest: Manifest, output: str | None, context: str | None) -> None:
    if output is None:
        asyncio.run(_apply(manifest, context))
        metadata = manifest["metadata"]
        print(f"wrote the ConfigMap {metadata['namespace']}/{metadata['name']}", file=sys.stderr)
        return
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    if output == "-":
        print(text, end="")
    else:
        Path(output).write_text(text)


async def _apply(manifest: Manifest, context: str | None) -> None:
    # NB: whoever only makes a manifest needs no client of Kubernetes.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    load = functools.partial(load_configuration, context)
    kube = KubeClient(await load(), reload=load, user_agent="capstan-cli")
    try:
        await kube.apply(manifest, manager=PRICES_MANAGER)
    finally:
        await kube.close()
