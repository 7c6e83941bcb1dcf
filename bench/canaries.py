"""What it costs a request that a revision of its model is tried: CPU time, as `gateway_profile.py` takes it.

    python bench/canaries.py [--rounds 25]

One gateway, with a model of which nothing is tried, and the same with a canary, at three weights; both revisions are
the same engine. Each round takes all lines one after the other, so that what else the machine does is in all of them
alike.
"""

import argparse
import asyncio
import gc
import tempfile
from pathlib import Path
from typing import Final, cast

import uvloop
from gateway_mock import JSON_ANSWER
from gateway_profile import answer_from, print_beside_first, request, turn
from gateway_rivals import UPSTREAM_PORT

from capstan_contract.config import Canary, GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.sharding import split_config
from capstan_gateway.__main__ import GC_THRESHOLDS
from capstan_gateway.composition import Gateway
from capstan_gateway.settings import Settings
from capstan_gateway.surface import api_listener

WEIGHTS: Final = (0.0, 50.0, 100.0)


def write_config(folder: Path) -> None:
    """Write the config of a model of which nothing is tried, and of one for each weight."""
    backend = StaticBackend(urls=(f"http://127.0.0.1:{UPSTREAM_PORT}",))
    models = [ModelEntry(id="bench/bench", servedName="bench", upstreamName="bench", backend=backend)]
    models += [
        ModelEntry(
            id=f"bench/w{weight:.0f}", servedName=f"w{weight:.0f}", upstreamName="bench", backend=backend,
            canary=Canary(id="r2-1", revision="r2", weight=weight, backend=backend),
        )
        for weight in WEIGHTS
    ]  # fmt: skip
    for file, document in split_config(GatewayConfig.build(models)).items():
        (folder / file).write_text(document)


async def measure(rounds: int) -> None:
    """Print the table."""
    answer_from(lambda: JSON_ANSWER)
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder))
        settings = Settings(
            config_dir=Path(folder), insecure_no_auth=True, log_level="error", probe_seconds=0.0,
            max_connections=1 << 20,
        )  # fmt: skip
        gateway = Gateway(settings)
        async with gateway.running():
            while gateway.current() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            lines = {
                "nothing is tried": "bench",
                **{f"a canary of weight {weight:.0f}": f"w{weight:.0f}" for weight in WEIGHTS},
            }
            gc.set_threshold(*GC_THRESHOLDS)
            gc.freeze()
            found: dict[str, list[float]] = {name: [] for name in lines}
            for _ in range(rounds + 1):
                for name, model in lines.items():
                    found[name].append(await turn(api_listener(gateway), request(stream=False, model=model)[1], b"}"))
            print_beside_first(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    uvloop.run(measure(cast(int, parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
