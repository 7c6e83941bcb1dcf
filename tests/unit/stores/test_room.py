"""Which stores there are, by the settings."""

import subprocess
import sys
from random import Random
from typing import Any

import pytest

from capstan_gateway.life.lifecycle import Lifecycle
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.settings import Settings
from capstan_gateway.stores.room import Stores, make_stores
from capstan_gateway.stores.usage import MemoryUsage
from capstan_gateway.telemetry.metrics import Metrics

URL = "redis://nowhere.invalid:6379/0"


def made(**settings: Any) -> Stores:
    """Make the stores of these settings."""
    options = Settings(insecure_no_auth=True, **settings)
    return make_stores(options, metrics=Metrics(), budget=MemoryBudget(1 << 20), rng=Random(1))  # noqa: S311


def jobs(stores: Stores) -> list[str]:
    """Give the parts that live with the process, in the order in which they were added."""
    lifecycle = Lifecycle()
    stores.live_in(lifecycle)
    assert lifecycle.not_ready() is None
    return [job.name for job in lifecycle.jobs]


def test_without_a_redis_there_is_nothing() -> None:
    """No URL, no store, nothing to note; usage is counted in the process, unless nobody wants it counted."""
    stores = made()
    assert (stores.redis, stores.responses, jobs(stores), stores.notes) == (None, None, ["usage"], ())
    assert isinstance(stores.usage, MemoryUsage)
    stores = made(usage_days=0)
    assert (stores.usage, stores.counts, jobs(stores)) == (None, None, [])


async def test_with_a_redis_responses_are_stored() -> None:
    """A URL makes the client and the store of responses, with the bounds of the settings; both keep no request away."""
    stores = made(
        redis_url=URL, stored_response_seconds=7, stored_response_bytes=8, stored_responses=9, stored_responses_bytes=10
    )
    assert stores.responses is not None
    bounds = stores.responses.bounds
    assert (bounds.seconds, bounds.response_bytes, bounds.responses, bounds.tenant_bytes) == (7, 8, 9, 10)
    assert (jobs(stores), stores.notes) == (["responses", "usage", "redis"], ())


async def test_stored_for_no_time_is_not_stored() -> None:
    """With no time to be kept for there is the client, for other stores, and none of responses."""
    stores = made(redis_url=URL, stored_response_seconds=0)
    assert (stores.responses, jobs(stores)) == (None, ["usage", "redis"])


@pytest.mark.parametrize("module", ["capstan_gateway.surface", "capstan_gateway.process"])
def test_the_library_is_loaded_only_with_a_redis(module: str) -> None:
    """A gateway without a Redis does not pay for its client."""
    look = f"import sys, {module}; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False, timeout=60).returncode == 0


async def test_what_waits_is_written_before_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end the outbox comes first, and the client that it writes with last."""
    stores, ended = made(redis_url=URL), list[str]()
    assert stores.redis is not None
    assert stores.responses is not None
    for part in (stores.redis, stores.responses):

        async def end(name: str = part.name) -> None:
            ended.append(name)

        monkeypatch.setattr(part, "aclose", end)
    lifecycle = Lifecycle()
    stores.live_in(lifecycle)
    await lifecycle.aclose()
    assert ended == ["responses", "redis"]
