"""How long the operator takes to settle N LLMModels, and what it needs at rest.

    python bench/operator_scale.py [--models 1000] [--rest 60] [--kubeconfig FILE]

Settled: every LLMModel has all its conditions at its newest generation, and its children exist. The clock runs from
the start of the operator's process, with all LLMModels there already (restart after an outage: the worst case).
Without --kubeconfig (or KUBECONFIG) an API server is started from ../shared/cluster.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from capstan_operator.api.kinds import KNOWN_RESOURCES, LLM_MODELS  # noqa: E402
from capstan_operator.kube.client import KubeClient, Limits  # noqa: E402
from capstan_operator.kube.errors import KubeError, UnknownResource  # noqa: E402
from capstan_operator.resources.api_resource import DEPLOYMENTS, ApiResource  # noqa: E402
from support.apiserver import api_server  # noqa: E402
from support.ports import free_port  # noqa: E402

INSTALL, NAMESPACE = "capstan-bench-system", "capstan-bench"
CRD = ApiResource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", False)
CONDITIONS = {"Accepted", "WeightsReady", "Available", "Progressing", "Degraded", "Ready"}


def manifest(number: int) -> dict[str, Any]:
    """A model such as people write them; every tenth has two replicas and prefixes."""
    spec: dict[str, Any] = {
        "model": {"source": f"hf://example/model-{number}", "servedName": f"example/model-{number}"},
        "resources": {"gpus": 1, "cpu": "4", "memory": "32Gi"},
        "serving": {"contextWindow": 8192, "price": {"inputPerMillion": "0.15", "outputPerMillion": "0.6"}},
    }
    if number % 10 == 0:
        spec["replicas"] = 2
        spec["prefixes"] = [{"name": "support", "system": "You answer questions about orders."}]
    return {
        "apiVersion": LLM_MODELS.api_version,
        "kind": "LLMModel",
        "metadata": {"name": f"model-{number:04}", "namespace": NAMESPACE},
        "spec": spec,
    }


async def prepare(kube: KubeClient, models: int) -> None:
    """Install the CRD and create the LLMModels."""
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        await kube.apply(yaml.safe_load(file.read_text()), manager="bench")
    for name in (INSTALL, NAMESPACE):
        await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="bench")
    while True:
        try:
            await kube.list(LLM_MODELS, namespace=NAMESPACE)
            break
        except UnknownResource:
            await asyncio.sleep(0.2)
    slots = asyncio.Semaphore(16)

    async def create(number: int) -> None:
        async with slots:
            await kube.apply(manifest(number), manager="bench")

    await asyncio.gather(*(create(number) for number in range(models)))


def is_settled(item: dict[str, Any]) -> bool:
    """Whether all conditions speak of the newest generation."""
    generation = item["metadata"]["generation"]
    found = {c["type"] for c in item.get("status", {}).get("conditions", ()) if c["observedGeneration"] == generation}
    return found >= CONDITIONS


async def count_settled(kube: KubeClient, health_port: int, models: int) -> int:
    """How many LLMModels are settled now; 0 while the operator cannot have written all of their statuses.

    To list them all, twice a second, would take a third of a core from what is measured.
    """
    try:
        calls, _, _ = await scrape(health_port)
    except aiohttp.ClientError:
        return 0  # the operator is starting
    if calls["apply_status", "llmmodels"] < models:
        return 0
    return sum(map(is_settled, (await kube.list(LLM_MODELS, namespace=NAMESPACE)).items))


@contextmanager
def operator(kubeconfig: Path, health_port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the operator as users run it."""
    environ = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "CAPSTAN_NAMESPACE": INSTALL,
        "CAPSTAN_GATEWAY_SERVICE": "",
        "CAPSTAN_HEALTH_PORT": str(health_port),
    }
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "capstan_operator"], env=environ, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


async def scrape(port_: int) -> tuple[Counter[tuple[str, str]], float, float]:
    """Read calls by (verb, kind), RSS in MiB and CPU seconds from the operator's own metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port_}/metrics") as response:
        text = await response.text()
    calls: Counter[tuple[str, str]] = Counter()
    for labels, value in re.findall(r"^capstan_operator_kube_calls_total\{(.*?)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="(.*?)"', labels))
        calls[named["verb"], named["kind"]] += int(float(value))
    rss = float(re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)[0])
    cpu = float(re.findall(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)[0])
    return calls, rss / 2**20, cpu


async def measure(kubeconfig: Path, models: int, rest: float, log: Path) -> None:
    """Prepare, start, wait, rest, print."""
    os.environ["KUBECONFIG"] = str(kubeconfig)
    kube = await KubeClient.connect(resources=(*KNOWN_RESOURCES, CRD, NAMESPACES), limits=Limits(connections=32))
    try:
        started = time.monotonic()
        await prepare(kube, models)
        print(f"created {models} LLMModels in {time.monotonic() - started:.1f} s")
        health_port = free_port()
        started = time.monotonic()
        with operator(kubeconfig, health_port, log) as process:
            while (settled := await count_settled(kube, health_port, models)) < models:
                if process.poll() is not None or time.monotonic() - started > 600:
                    raise SystemExit(f"not settled: {settled} of {models}; see {log}")
                await asyncio.sleep(0.5)
            settle_seconds = time.monotonic() - started
            deployments = len((await kube.list(DEPLOYMENTS, namespace=NAMESPACE)).items)
            calls, rss, cpu = await scrape(health_port)
            await quiet(health_port)
            before, _, cpu_before = await scrape(health_port)
            await asyncio.sleep(rest)
            after, rss_rest, cpu_after = await scrape(health_port)
        report(models, settle_seconds, deployments, calls, rss, cpu)
        print(f"| memory at rest (RSS) | {rss_rest:.0f} MiB |")
        print(f"| CPU at rest | {100 * (cpu_after - cpu_before) / rest:.1f} % of a core |")
        writes = sum(n for (verb, _), n in (after - before).items() if verb not in ("list", "get"))
        leases = (after - before)["apply", "leases"]
        print(f"| API calls at rest, per minute | {sum((after - before).values()) * 60 / rest:.0f} |")
        print(f"| of these: lease renewals | {leases * 60 / rest:.0f} |")
        print(f"| of these: other writes | {(writes - leases) * 60 / rest:.0f} |")
    except KubeError as error:
        raise SystemExit(f"the API server said: {error}") from error
    finally:
        await kube.close()


async def quiet(health_port: int) -> None:
    """Wait until the operator has written nothing for 20 s: until all pods have appeared and all Events are out."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 20:
        calls, _, _ = await scrape(health_port)
        writes = sum(n for (verb, kind), n in calls.items() if verb not in ("list", "get") and kind != "leases")
        if writes != last:
            last, since = writes, time.monotonic()
        await asyncio.sleep(0.5)


def report(
    models: int, seconds: float, deployments: int, calls: Counter[tuple[str, str]], rss: float, cpu: float
) -> None:
    """Print the table."""
    writes = sum(n for (verb, _), n in calls.items() if verb not in ("list", "get"))
    print("| what | measured |")
    print("| --- | --- |")
    print(f"| LLMModels | {models} |")
    print(f"| time until all are settled | {seconds:.1f} s |")
    print(f"| Deployments then | {deployments} |")
    print(f"| writes until then | {writes} ({writes / seconds:.0f} per second) |")
    print(f"| reads until then | {sum(calls.values()) - writes} |")
    print(f"| operator's CPU until then | {cpu:.1f} s |")
    print(f"| memory then (RSS) | {rss:.0f} MiB |")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rest", type=float, default=60.0, help="seconds to watch at rest")
    parser.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG"))
    parser.add_argument("--port", type=int, default=7460, help="of the API server that is started")
    parser.add_argument("--log", type=Path, default=Path("operator-scale.log"), help="the operator's log")
    options = parser.parse_args()
    if options.kubeconfig:
        asyncio.run(measure(Path(options.kubeconfig), options.models, options.rest, options.log))
        return
    with api_server(port=options.port, controllers=True) as kubeconfig:
        asyncio.run(measure(kubeconfig, options.models, options.rest, options.log))


if __name__ == "__main__":
    main()
