"""The limiter of a gateway in a process, driven by lines of JSON: `python -m support.limit_process URL SKEW MODE`.

    {"ask": 50, "rule": {"rate": [50, 3600000, 50]}, "amount": 1, "key": "k"}    how many were admitted, all at once
    {"settle": 1}                                                              end all that run, having used so much
    {"state": true}                                                            what the limiter says of itself

It ends when its input does. SKEW is by how many seconds its clock is wrong, MODE `shares` or `one-by-one`.
"""

import asyncio
import json
import sys
import time
from random import Random
from typing import Any

from capstan_gateway.life.jobs import Jobs
from capstan_gateway.life.lifecycle import Lifecycle
from capstan_gateway.limits.limiter import StoreLimiter
from capstan_gateway.limits.port import Bucket, Charge, Quota, Rate, Reservation, Rule, Slots, StoreDown, Verdict
from capstan_gateway.limits.room import make_counting
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics


def rule_of(said: dict[str, Any]) -> Rule:
    """Read a rule; a quota is told when one of its periods begins, and how long they are."""
    if "rate" in said:
        return Rate(*said["rate"])
    if "slots" in said:
        return Slots(said["slots"])
    limit, begin, length = said["quota"]
    number = (time.time_ns() // 1_000_000 - begin) // length
    return Quota(limit, tuple(begin + length * (number + step) for step in (-1, 0, 1, 2)))


class Process:
    """What the lines are about."""

    def __init__(self, url: str, one_by_one: bool) -> None:
        settings = Settings(
            insecure_no_auth=True, redis_url=url, limits_one_by_one=one_by_one, redis_limit_seconds=30.0
        )
        self.counting = make_counting(settings, metrics=Metrics(), rng=Random())  # noqa: S311 - jitter
        self.running: list[Reservation] = []

    async def do(self, said: dict[str, Any]) -> Any:
        """Do what a line says."""
        limiter = self.counting.limiter
        assert isinstance(limiter, StoreLimiter)
        if "settle" in said:
            ended, self.running = self.running, []
            for reservation in ended:
                reservation.settle([said["settle"]])
            while limiter.waiting:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            return len(ended)
        if "state" in said:
            return {"up": limiter.up, "gateways": limiter.gateways, "shares": limiter.book.count,
                    "from_shares": limiter.tally.from_shares}  # fmt: skip
        charges = [Charge(Bucket("policy", said["key"], rule_of(said["rule"])), said["amount"])]
        return sum(await asyncio.gather(*(self._ask(charges) for _ in range(said["ask"]))))

    async def _ask(self, charges: list[Charge]) -> bool:
        limiter = self.counting.limiter
        try:
            found = limiter.take(charges) or await limiter.reserve(charges, local=False)
        except StoreDown:
            return False
        if isinstance(found, Verdict):
            return False
        self.running.append(found)
        return True


async def main(url: str, one_by_one: bool) -> None:
    """Do what the lines say, and say what came of each."""
    process = Process(url, one_by_one)
    lifecycle = Lifecycle()
    process.counting.live_in(lifecycle)
    work = asyncio.create_task(Jobs(rng=Random()).run(lifecycle.jobs))  # noqa: S311 - jitter
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await process.do(json.loads(line))), flush=True)
    await lifecycle.aclose()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


if __name__ == "__main__":
    skew, real = int(float(sys.argv[2]) * 1e9), time.time_ns
    time.time_ns = lambda: real() + skew
    asyncio.run(main(sys.argv[1], sys.argv[3] == "one-by-one"))
