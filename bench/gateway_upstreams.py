"""The upstreams that bench/gateway.py puts behind every gateway, one at a time, always on the same port."""

import sys
from pathlib import Path
from typing import Final

from gateway_mock import CHUNKS as CHUNKS

HERE = Path(__file__).resolve().parent
UPSTREAM_PORT: Final = 18090
WORKER_PORT: Final = 18092
JSON_TOKENS: Final = 16
TTFT_MS: Final = 20
TPOT_MS: Final = 10
"""At 256 streams this is 25,000 events a second: more than most gateways can do, less than the simulator can."""

_MOCK: Final = [sys.executable, str(HERE / "gateway_mock.py"), str(UPSTREAM_PORT)]
_SIMULATOR: Final = [
    *(sys.executable, "-m", "capstan_worker", "simulator", "--model", "bench", "--log-level", "WARNING"),
    *("--port", str(UPSTREAM_PORT), "--worker-port", str(WORKER_PORT)),
    *("--ttft-ms", str(TTFT_MS), "--tpot-ms", str(TPOT_MS)),
    *("--answer-tokens", "1000"),  # so that max_tokens is what ends an answer
    *("--concurrency", "1024"),  # so that no request waits for a place
    *("--keep-alive-seconds", "600"),  # no gateway is to meet connections closed between two scenarios
]
UPSTREAMS: Final = {"mock": _MOCK, "simulator": _SIMULATOR}
