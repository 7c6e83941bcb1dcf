"""What it costs a request that answers are sampled: CPU time in this process, as `gateway_profile.py` takes it.

    python bench/sampling.py [--rounds 25]

Two gateways with one config, of which one samples: it has a store that takes everything, and what the outbox and its
thread do in the background is counted too, since it is the same process. Each round takes all lines one after the
other, so that what else the machine does is in all of them alike.
"""

import argparse
import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import uvloop
from gateway_mock import JSON_ANSWER
from gateway_profile import answer_from, print_beside_first, request, turn
from gateway_rivals import UPSTREAM_PORT

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.evaluation import Criterion, Evaluation
from capstan_contract.queue.wire import Packing
from capstan_contract.sharding import split_config
from capstan_gateway.__main__ import GC_THRESHOLDS
from capstan_gateway.composition import Gateway
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.sampling.kind import Samples
from capstan_gateway.pipeline.sampling.room import SampleRoom
from capstan_gateway.settings import Settings
from capstan_gateway.surface import api_listener

RATES: Final = {"a tenth of the answers are samples": 0.1, "every answer is a sample": 1.0}


class TakesAll:
    """A store that says that it has done everything."""

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:  # noqa: ARG002
        return [None] * len(fields)

    async def read_all(self, key: str) -> dict[bytes, bytes]:  # noqa: ARG002
        return {}

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:  # noqa: ARG002
        return 1


def write_config(folder: Path) -> None:
    """Write the config of a model that is not sampled, and of one for each rate."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    criteria = (Criterion(name="polite", text="It is polite."),)
    models = [ModelEntry(id="bench/bench", servedName="bench", upstreamName="bench", backend=backend)]
    models += [
        ModelEntry(
            id=f"bench/r{rate}", servedName=f"r{rate}", upstreamName="bench", backend=backend,
            evaluation=Evaluation(sampleRate=rate, criteria=criteria, judge="bench/bench"),
        )
        for rate in RATES.values()
    ]  # fmt: skip
    for file, document in split_config(GatewayConfig.build(models)).items():
        (folder / file).write_text(document)


async def measure(rounds: int) -> None:
    """Print the table."""
    loop, outcomes = asyncio.get_running_loop(), dict[str, int]()

    def count(_: str, outcome: str) -> None:
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    answer_from(lambda: JSON_ANSWER)
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder))
        settings = Settings(
            config_dir=Path(folder), insecure_no_auth=True, log_level="error", probe_seconds=0.0,
            max_connections=1 << 20,
        )  # fmt: skip
        room = SampleRoom(
            TakesAll(), packing=Packing(), budget=MemoryBudget(1 << 30), rng=random.Random(1), count=count,
            now=time.time, loop_time=loop.time,
        )  # fmt: skip
        without, sampling = Gateway(settings), Gateway(settings, kinds=(Samples(room),))
        writing = asyncio.create_task(room.run())
        # NB: the samples' own kind, of a gateway without a Redis, says at its start that it does nothing.
        async with without.running(), sampling.running():
            while without.current() is None or sampling.current() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            lines = {
                "a gateway that knows nothing of samples": (without, "bench"),
                "a model that is not sampled": (sampling, "bench"),
                **{name: (sampling, f"r{rate}") for name, rate in RATES.items()},
            }
            gc.set_threshold(*GC_THRESHOLDS)
            gc.freeze()
            found: dict[str, list[float]] = {name: [] for name in lines}
            for _ in range(rounds + 1):
                for name, (gateway, model) in lines.items():
                    began = time.process_time()
                    took = await turn(api_listener(gateway), request(stream=False, model=model)[1], b"}")
                    behind = time.process_time()
                    while len(room):  # noqa: ASYNC110 - what is left of this line is this line's
                        await asyncio.sleep(0.01)
                    share = (time.process_time() - behind) / max(behind - began, 1e-9)
                    found[name].append(took * (1 + share))
            print_beside_first(found)
            print(f"samples: {outcomes}")
        writing.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    uvloop.run(measure(cast(int, parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
