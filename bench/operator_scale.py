"""How long the operator takes to settle N LLMModels, what a storm does to it, and what it needs at rest.

    python bench/operator_scale.py [--models 1000 5000] [--rest 60] [--kubeconfig FILE]

Settled: every LLMModel has all its conditions at its newest generation, and its children exist. The clock runs from
the start of the operator's process, with all LLMModels there already (restart after an outage: the worst case).
A storm changes LLMModels one after the other, as fast as the API server takes them; in the middle of it one is renamed,
and enforced is when the gateway's config has the new name. Every phase has a deadline; what it has not reached by then
is in the table as "no".
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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from capstan_operator.api.kinds import KNOWN_RESOURCES, LLM_MODELS  # noqa: E402
from capstan_operator.kube.client import KubeClient, Limits  # noqa: E402
from capstan_operator.kube.errors import KubeError, UnknownResource  # noqa: E402
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, ApiResource  # noqa: E402
from support.apiserver import api_server  # noqa: E402
from support.ports import free_port  # noqa: E402

INSTALL, NAMESPACE = "capstan-bench-system", "capstan-bench"
CRD = ApiResource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
RESYNC_SECONDS = 60
STORM_SECONDS = 20.0
QUIET_SECONDS = 900.0
CHANGERS = 8
"""Changes of models under way at once in a storm."""
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


@dataclass
class Sample:
    """What the operator's own metrics say at one moment."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    received: float = 0.0
    memory: float = 0.0
    cpu: float = 0.0
    stall: float = 0.0
    resync_age: float = 0.0
    events: float = 0.0
    """Of the watches."""

    @property
    def writes(self) -> int:
        """Writes so far, those of the lease aside."""
        return sum(n for (verb, kind), n in self.calls.items() if verb not in ("list", "get") and kind != "leases")


async def sample(port_: int) -> Sample:
    """Scrape the operator."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port_}/metrics") as response:
        text = await response.text()

    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.MULTILINE))

    calls: Counter[tuple[str, str]] = Counter()
    for labels, value in re.findall(r"^capstan_operator_kube_calls_total\{(.*?)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="(.*?)"', labels))
        calls[named["verb"], named["kind"]] += int(float(value))
    return Sample(
        calls,
        total("capstan_operator_kube_received_bytes_total"),
        total("process_resident_memory_bytes") / 2**20,
        total("process_cpu_seconds_total"),
        total("capstan_operator_loop_stall_max_seconds"),
        total("capstan_operator_resync_age_seconds"),
        total("capstan_operator_watch_events_total"),
    )


@contextmanager
def operator(kubeconfig: Path, health_port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the operator as users run it."""
    environ = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "CAPSTAN_NAMESPACE": INSTALL,
        "CAPSTAN_GATEWAY_SERVICE": "",
        "CAPSTAN_HEALTH_PORT": str(health_port),
        "CAPSTAN_RESYNC_SECONDS": str(RESYNC_SECONDS),
    }
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "capstan_operator"], env=environ, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


async def until(check: Any, *, seconds: float, every: float = 0.5) -> float | None:
    """Give how long it took until `check` was true; None when it was not within `seconds`."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            if await check():
                return time.monotonic() - started
        except aiohttp.ClientError:
            pass  # the operator is starting
        await asyncio.sleep(every)
    return None


class Bench:
    """One operator over so many LLMModels, phase by phase."""

    def __init__(self, kube: KubeClient, models: int, health_port: int) -> None:
        self._kube = kube
        self._models = models
        self._port = health_port
        self.rows: dict[str, str] = {}

    async def settle(self) -> None:
        """Wait until everything is settled."""
        took = await until(self._is_settled, seconds=300 + self._models / 5)
        now = await sample(self._port)
        deployments = len((await self._kube.list(DEPLOYMENTS, namespace=NAMESPACE, metadata_only=True)).items)
        self.rows["time until all are settled"] = _seconds(took)
        self.rows["Deployments then"] = str(deployments)
        self.rows["writes until then"] = str(now.writes)
        self.rows["longest stall of the loop until then"] = f"{1000 * now.stall:.0f} ms"

    async def second_pass(self) -> None:
        """Count what a whole resync writes once nothing moves any more."""
        await self._quiet(seconds=QUIET_SECONDS)
        before = await sample(self._port)

        async def has_passed() -> bool:
            return (await sample(self._port)).resync_age < before.resync_age

        took = await until(has_passed, seconds=3 * RESYNC_SECONDS)
        after = await sample(self._port)
        self.rows["writes in a second pass"] = str(after.writes - before.writes) if took is not None else "no"

    async def storm(self) -> None:
        """Change models for 20 s, and rename one in the middle."""
        began = time.monotonic()
        renamed = manifest(self._models - 1)
        renamed["spec"]["model"]["servedName"] = "example/renamed"
        async with self._changing() as changed:
            await asyncio.sleep(STORM_SECONDS / 2)
            await self._kube.apply(renamed, manager="bench")
            seen: dict[str, str] = {}

            async def is_enforced() -> bool:
                return await self._config_has("example/renamed", seen)

            took = await until(is_enforced, seconds=60, every=0.1)
            await asyncio.sleep(max(0.0, began + STORM_SECONDS - time.monotonic()))
        self.rows["changes per second in a storm"] = f"{len(changed) / (time.monotonic() - began):.0f}"
        self.rows["from apply to enforced in its middle"] = _seconds(took)
        self.rows["longest stall of the loop so far"] = f"{1000 * (await sample(self._port)).stall:.0f} ms"

    async def rest(self, seconds: float) -> None:
        """Watch it while nothing happens."""
        quiet = await self._quiet(seconds=QUIET_SECONDS)
        before = await sample(self._port)
        await asyncio.sleep(seconds)
        after = await sample(self._port)
        minute = 60 / seconds
        made = after.calls - before.calls
        print("  calls at rest:", ", ".join(f"{verb} {kind} {n}" for (verb, kind), n in made.most_common()), flush=True)
        calls = sum(made.values())
        self.rows["quiet again"] = "yes" if quiet is not None else "no"
        self.rows["memory at rest"] = f"{after.memory:.0f} MiB"
        self.rows["CPU at rest"] = f"{100 * (after.cpu - before.cpu) / seconds:.1f} % of a core"
        self.rows["API calls at rest, per minute"] = f"{calls * minute:.0f}"
        self.rows["bytes of their answers, per minute"] = (
            f"{(after.received - before.received) * minute / 1024:.0f} KiB"
        )
        self.rows["writes at rest (but the lease)"] = str(after.writes - before.writes)
        self.rows["longest stall of the loop"] = f"{1000 * after.stall:.0f} ms"

    async def _is_settled(self) -> bool:
        # NB: to list them all, twice a second, would take a third of a core from what is measured.
        if (await sample(self._port)).calls["apply_status", "llmmodels"] < self._models:
            return False
        listing = await self._kube.list(LLM_MODELS, namespace=NAMESPACE, shape=is_settled)
        return sum(listing.items) >= self._models

    async def _quiet(self, *, seconds: float) -> float | None:
        """Wait until nothing was written and no watch has reported anything for 15 s.

        All pods have appeared by then, all Events are out, and the cluster's own controllers are through with what has
        changed, which takes them minutes after a storm: they hold themselves to some 20 writes a second.
        """
        last, since = (-1, -1.0), time.monotonic()

        async def is_quiet() -> bool:
            nonlocal last, since
            now = await sample(self._port)
            if (now.writes, now.events) != last:
                last, since = (now.writes, now.events), time.monotonic()
            return time.monotonic() - since >= 15

        return await until(is_quiet, seconds=seconds)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[list[int]]:
        changed: list[int] = []

        async def change(first: int) -> None:
            for number in range(first, 10**9, CHANGERS):
                one = manifest(number % max(self._models - 1, 1))
                one["spec"]["serving"]["contextWindow"] = 4096 + number
                await self._kube.apply(one, manager="bench")
                changed.append(number)

        tasks = [asyncio.create_task(change(first)) for first in range(CHANGERS)]
        try:
            yield changed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _config_has(self, name: str, seen: dict[str, str]) -> bool:
        """Whether one of the config's objects has a name; only those that are new are read."""
        listing = await self._kube.list(
            CONFIG_MAPS, namespace=INSTALL, label_selector="app.kubernetes.io/managed-by=capstan", metadata_only=True
        )
        for item in listing.items:
            metadata = item["metadata"]
            if seen.get(metadata["name"]) != metadata["resourceVersion"]:
                found = await self._kube.get(CONFIG_MAPS, metadata["name"], namespace=INSTALL)
                seen[metadata["name"]] = found["metadata"]["resourceVersion"]
                if any(f'"{name}"' in text for text in found["data"].values()):
                    return True
        return False


def _seconds(took: float | None) -> str:
    return "no" if took is None else f"{took:.1f} s"


async def measure(kubeconfig: Path, models: int, rest: float, log: Path) -> dict[str, str]:
    """Prepare, start, and go through the phases."""
    os.environ["KUBECONFIG"] = str(kubeconfig)
    kube = await KubeClient.connect(resources=(*KNOWN_RESOURCES, CRD, NAMESPACES), limits=Limits(connections=32))
    bench = Bench(kube, models, free_port())
    try:
        started = time.monotonic()
        await prepare(kube, models)
        print(f"created {models} LLMModels in {time.monotonic() - started:.1f} s", flush=True)
        with operator(kubeconfig, bench._port, log) as process:
            for phase in (bench.settle, bench.second_pass, bench.storm, lambda: bench.rest(rest)):
                if process.poll() is not None:
                    raise SystemExit(f"the operator ended; see {log}")
                await phase()
                print(f"  {list(bench.rows.items())[-1]}", flush=True)
    except KubeError as error:
        bench.rows["the API server said"] = str(error)
    finally:
        await kube.close()
    return bench.rows


def print_table(results: dict[int, dict[str, str]]) -> None:
    """Print what can be committed."""
    print("| LLMModels | " + " | ".join(f"{models:,}" for models in results) + " |")
    print("| --- |" + " --- |" * len(results))
    for row in dict.fromkeys(row for rows in results.values() for row in rows):
        print(f"| {row} | " + " | ".join(rows.get(row, "") for rows in results.values()) + " |")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--rest", type=float, default=60.0, help="seconds to watch at rest")
    parser.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG"))
    parser.add_argument("--port", type=int, default=7460, help="of the API server that is started")
    parser.add_argument("--log", type=Path, default=Path("operator-scale.log"), help="the operator's log")
    options = parser.parse_args()
    results: dict[int, dict[str, str]] = {}
    for models in options.models:
        if options.kubeconfig:
            results[models] = asyncio.run(measure(Path(options.kubeconfig), models, options.rest, options.log))
        else:
            with api_server(port=options.port, controllers=False) as kubeconfig:
                results[models] = asyncio.run(measure(kubeconfig, models, options.rest, options.log))
    print_table(results)


if __name__ == "__main__":
    main()
