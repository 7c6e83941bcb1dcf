"""How long a key takes to be let in, and to be refused, on every replica: a real API server, operator and gateways.

    python bench/api_keys.py [--keys 10000] [--models 0] [--gateways 2] [--rounds 10]

Each round makes a key by server-side apply, asks all gateways until the last one lets it in, deletes its Secret, and
asks until the last one refuses it. Prints the seconds of each, and what the operator and the gateways hold.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from capstan_operator.cli.cluster_keys import ClusterKeys  # noqa: E402
from capstan_operator.desired.issued import Terms, make_key  # noqa: E402
from capstan_operator.kube.client import KubeClient  # noqa: E402
from capstan_operator.resources.api_resource import SECRETS  # noqa: E402
from support.apiserver import api_server  # noqa: E402
from support.kube_gateway import account, source_flags, trust  # noqa: E402
from support.llmmodels import hosted  # noqa: E402
from support.operator_process import OperatorProcess, connect, install_crds, make_namespace  # noqa: E402
from support.ports import free_port  # noqa: E402

AT_ONCE = 16
PATIENCE = 60.0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=0)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--port", type=int, default=int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")))
    return parser.parse_args()


async def fill(kube: KubeClient, namespace: str, keys: int, models: int) -> None:
    """Make the keys and the models that are there all the time."""
    store, turn = ClusterKeys(kube, namespace), asyncio.Semaphore(AT_ONCE)

    async def key(number: int) -> None:
        async with turn:
            name = f"key-{number}"
            await store.create(name, make_key(), Terms(user=f"user-{number}", team=f"team-{number % 100}"))

    async def model(number: int) -> None:
        async with turn:
            await kube.apply(hosted(f"model-{number}", namespace), manager="bench")

    await asyncio.gather(*(key(number) for number in range(keys)), *(model(number) for number in range(models)))


def start_gateway(url: str, folder: Path, namespace: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a replica."""
    flags = ["--port", str(port), *source_flags(url, folder, namespace), "--log-level", "warning"]
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-m", "capstan_gateway", *flags], stdout=output, stderr=output)


async def until(http: aiohttp.ClientSession, port: int, key: str, status: int) -> float:
    """Ask one replica until it answers so; give when that was."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            url = f"http://127.0.0.1:{port}/v1/models/nothing"
            async with http.get(url, headers={"authorization": f"Bearer {key}"}) as response:
                if response.status == status:
                    return time.monotonic()
        except aiohttp.ClientError:
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.005)
    raise TimeoutError(f"the gateway at {port} did not answer {status}")


async def rounds(kube: KubeClient, namespace: str, ports: list[int], count: int) -> tuple[list[float], list[float]]:
    """Make and revoke a key again and again; give the seconds of both."""
    store, let_in, refused = ClusterKeys(kube, namespace), list[float](), list[float]()
    async with aiohttp.ClientSession() as http:
        for number in range(count + 1):
            name, key = f"probe-{number}", make_key()
            await store.create(name, key, Terms(user="probe"))
            began = time.monotonic()
            let_in.append(max(await asyncio.gather(*(until(http, port, key, 404) for port in ports))) - began)
            await asyncio.sleep(1.0)
            began = time.monotonic()
            await kube.delete(SECRETS, name, namespace=namespace)
            refused.append(max(await asyncio.gather(*(until(http, port, key, 401) for port in ports))) - began)
            await asyncio.sleep(1.0)
    return let_in[1:], refused[1:]


def resident(pid: int) -> int:
    """Give the MiB that a process holds."""
    fields: dict[str, Any] = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) // 1024


async def run(arguments: argparse.Namespace, kubeconfig: Path, folder: Path) -> None:
    """Do it all."""
    async with connect(kubeconfig) as kube, AsyncExitStack() as stack:
        await install_crds(kube)
        namespace = await make_namespace(kube)
        url = trust(kubeconfig, folder / "account")
        (folder / "account" / "token").write_text(await account(kube, namespace))
        began = time.monotonic()
        await fill(kube, namespace, arguments.keys, arguments.models)
        print(f"made {arguments.keys} keys and {arguments.models} models in {time.monotonic() - began:.0f} s")
        operator = OperatorProcess(kubeconfig, namespace, folder / "operator.log").start()
        stack.callback(operator.kill)
        gateways = []
        for number in range(arguments.gateways):
            port = free_port()
            process = start_gateway(url, folder / "account", namespace, port, folder / f"gateway-{number}.log")
            stack.callback(process.kill)
            gateways.append((port, process))
        ports = [port for port, _ in gateways]
        let_in, refused = await rounds(kube, namespace, ports, arguments.rounds)
        for what, seconds in (("let in", let_in), ("refused", refused)):
            print(f"{what}: median {statistics.median(seconds):.3f} s, most {max(seconds):.3f} s")
        assert operator._process is not None
        print(
            f"operator: {resident(operator._process.pid)} MiB, gateways: {[resident(p.pid) for _, p in gateways]} MiB"
        )


def main() -> None:
    """Start an API server of our own, and measure."""
    arguments = parse()
    with api_server(port=arguments.port) as kubeconfig, tempfile.TemporaryDirectory() as folder:
        try:
            asyncio.run(run(arguments, kubeconfig, Path(folder)))
        except BaseException:
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
