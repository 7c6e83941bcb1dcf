"""Workers of the queue as real processes: simulators that take queued work, and die of it."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.queue_gateway import QueueGateway
from support.redis_server import RedisServer, redis_server
from support.wait import eventually, wait_until
from support.worker import Worker, get, simulator, worker

pytestmark = pytest.mark.redis


@contextmanager
def _simulator(server: RedisServer, *flags: str, **options: Any) -> Iterator[Worker]:
    variables = {"CAPSTAN_WORKER_REDIS_URL": server.url, "CAPSTAN_WORKER_QUEUE_MODEL": "default/chat"}
    with simulator(*flags, environ={**variables, **options.pop("environ", {})}, **options) as started:
        yield started


def _running(one: Worker) -> int:
    return int(one.metric("capstan_worker_queue_in_flight"))


async def test_a_worker_that_is_killed_before_its_first_piece(server: RedisServer, gateway: QueueGateway) -> None:
    """Another worker answers, when the lease is over, and the client sees one whole answer."""
    with _simulator(server, "--ttft-ms", "3600000") as first:
        one = gateway.chat(more={"max_tokens": 5})
        await eventually(lambda: gateway.state() and _running(first) == 1, what="the first worker's work")
        os.kill(first.process.pid, signal.SIGKILL)
        with _simulator(server, wait_ready=False) as second:
            await ready(gateway, second)
            (answer,) = await gateway.done(one)
    assert (answer.ends, answer.attempts) == (["end"], {2})
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_worker_that_is_killed_in_the_middle(server: RedisServer, gateway: QueueGateway) -> None:
    """The client is told that the answer is lost; nobody begins it anew."""
    with _simulator(server, "--tpot-ms", "3600000") as first:
        one = gateway.chat(more={"max_tokens": 5})
        await gateway.begun(one)
        os.kill(first.process.pid, signal.SIGKILL)
        with _simulator(server, wait_ready=False) as second:
            await ready(gateway, second)
            (answer,) = await gateway.done(one)
            assert second.metric("capstan_worker_queue_taken_total") == 0
    assert answer.ends == ["lost"]


async def test_a_request_that_kills_its_workers_is_poison(server: RedisServer, gateway: QueueGateway) -> None:
    """After two workers it gets an error, and the next ones live."""
    one = gateway.chat(more={"max_tokens": 5})
    for attempt in (1, 2):
        with _simulator(server, "--ttft-ms", "3600000") as victim:
            # Its gateway is there all the time, however long workers take to begin.
            await eventually(
                lambda victim=victim: gateway.state().workers and _running(victim) == 1, what=f"attempt {attempt}"
            )
            os.kill(victim.process.pid, signal.SIGKILL)
    with _simulator(server, wait_ready=False) as last:
        await ready(gateway, last)
        (answer,) = await gateway.done(one)
    assert answer.ends == ["poison"]


async def test_a_worker_that_is_told_to_end_finishes_what_runs(server: RedisServer, gateway: QueueGateway) -> None:
    """From SIGTERM on it takes nothing; what it works on is answered, and the process ends with 0. What its engine
    would not finish in time is another worker's at once."""
    with _simulator(server, "--concurrency", "2", "--tpot-ms", "20") as first:
        ids = [gateway.chat(more={"max_tokens": 20, "min_tokens": 20}) for _ in range(4)]
        await gateway.begun(ids[0])
        first.process.send_signal(signal.SIGTERM)
        await eventually(lambda: gateway.state() and first.process.poll() is not None, what="the end of the process")
        assert first.process.returncode == 0
        gateway.read()
        answered = [one for one in ids if gateway.answers[one].done]
        assert len(answered) in (2, 3, 4)
        assert len(answered) == first_taken(gateway, ids)
        with _simulator(server, wait_ready=False) as second:
            await ready(gateway, second)
            answers = await gateway.done(*ids)
    assert all(answer.ends == ["end"] for answer in answers)


def first_taken(gateway: QueueGateway, ids: list[str]) -> int:
    """Count what does not wait any more."""
    return len(ids) - gateway.state().waiting[1]


async def test_a_hook_does_not_wait_for_queued_work(server: RedisServer, gateway: QueueGateway) -> None:
    """It would go on coming: the hook waits for direct requests, and the signal ends the taking."""
    with _simulator(server, "--tpot-ms", "3600000", "--grace-seconds", "2") as one:
        begun = gateway.chat(more={"max_tokens": 5})
        await gateway.begun(begun)
        assert get(one.drain_url) == (200, "drained\n")
        assert one.stop() == 0
    (answer,) = await gateway.done(begun)
    assert answer.ends == ["lost"]


async def ready(gateway: QueueGateway, one: Worker) -> None:
    """Wait until a worker is there, as a gateway that is there all the time."""
    await eventually(lambda: gateway.state() and one.is_ready(), what="the worker's readiness")


async def test_two_workers_are_fair_to_tenants(server: RedisServer, gateway: QueueGateway) -> None:
    """A tenant that asks for very much before another one does not keep that one waiting: both are served in turn, and
    each entry is answered once."""
    greedy = [gateway.chat(f"g{number}", tenant="greedy", more={"max_tokens": 1}) for number in range(16)]
    modest = [gateway.chat(f"m{number}", tenant="modest", more={"max_tokens": 1}) for number in range(4)]
    flags = "--concurrency", "1", "--ttft-ms", "30"
    with _simulator(server, *flags, wait_ready=False) as one, _simulator(server, *flags, wait_ready=False) as two:
        for worker in (one, two):
            await ready(gateway, worker)
        answers = await gateway.done(*greedy, *modest)
        taken = [int(worker.metric("capstan_worker_queue_taken_total")) for worker in (one, two)]
    assert sum(taken) == 20
    assert all(answer.ends == ["end"] for answer in answers)
    assert max(gateway.finished.index(one) for one in modest) < 12


async def test_a_sidecar_takes_queued_work(server: RedisServer, gateway: QueueGateway) -> None:
    """Beside an engine at a URL, by that engine's metrics; what the engine does not want is its answer."""
    with simulator("--concurrency", "2", "--tpot-ms", "5") as engine:
        flags = ["--engine", "vLLM", "--engine-url", engine.url, "--model", "sim", "--settle-seconds", "0.2"]
        variables = {"CAPSTAN_WORKER_REDIS_URL": server.url, "CAPSTAN_WORKER_QUEUE_MODEL": "default/chat"}
        with worker("sidecar", flags, environ=variables) as beside:
            ids = [gateway.chat(more={"max_tokens": 8, "min_tokens": 8}) for _ in range(6)]
            wrong = gateway.chat(model="nobody")
            *answers, refused = await gateway.done(*ids, wrong)
            wait_until(lambda: beside.metric("capstan_worker_queue_service_seconds_count") == 7, what="the count")
    assert all(answer.ends == ["end"] for answer in answers)
    assert refused.head is not None
    assert (refused.head.status, json.loads(refused.body)["error"]["code"]) == (404, 404)


async def test_a_password_and_a_secret_from_files(tmp_path: Path) -> None:
    """They are read from files, and neither is in the log."""
    (tmp_path / "password").write_text("hunter2-password\n")
    (tmp_path / "secret").write_text("the-sealing-secret\n")
    from capstan_contract.queue.wire import Packing

    with redis_server(tmp_path, password="hunter2-password") as server, server.client() as client:
        gateway = QueueGateway(client, packing=Packing(b"the-sealing-secret"))
        variables = {
            "CAPSTAN_WORKER_REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
            "CAPSTAN_WORKER_REDIS_PASSWORD_FILE": str(tmp_path / "password"),
            "CAPSTAN_WORKER_QUEUE_SECRET_FILE": str(tmp_path / "secret"),
        }
        with _simulator(server, environ=variables) as one:
            (answer,) = await gateway.done(gateway.chat("tell me nothing", more={"max_tokens": 3}))
            assert one.metric("capstan_worker_queue_up") == 1
            log = one.log.read_text()
    assert answer.ends == ["end"]
    assert not any(word in log for word in ("hunter2", "sealing-secret", "tell me nothing"))


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CAPSTAN_WORKER_QUEUE_MODEL": "chat"}, "--queue-model must be NAMESPACE/NAME"),
        ({"CAPSTAN_WORKER_QUEUE_SECRET": "short"}, "--queue-secret must have at least 16 bytes"),
        ({"CAPSTAN_WORKER_REDIS_CA_FILE": "/nowhere"}, "--redis-ca-file: /nowhere is no file"),
        ({"CAPSTAN_WORKER_REDIS_PASSWORD_FILE": "/nowhere"}, "--redis-password-file: cannot read /nowhere"),
        ({"CAPSTAN_WORKER_REDIS_URL": "redis://:pa$$@host:99999"}, "CAPSTAN_WORKER_REDIS_URL must be redis://"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2 and one line, which repeats no secret."""
    from capstan_worker.__main__ import main

    given = {"CAPSTAN_WORKER_REDIS_URL": "redis://r", "CAPSTAN_WORKER_QUEUE_MODEL": "default/chat", **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["simulator", "--model", "m"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "short" not in error
    assert "pa$$" not in error
