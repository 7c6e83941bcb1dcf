"""The queue on a cluster, in an installation with few rights: requests come to their answers through kills, batches,
upgrades, and from zero."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from support.cluster import NAMESPACE, TAG, Cluster, Manifest, simulated
from support.queued_release import FLAGS, WORKER_PASSWORD, install_queue, queued_values, remove_queue, upgrade
from support.traffic import BROKEN, Traffic
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAMED = "few-rights"
NEXT = "e2e-next"
"""The worker's image under another tag."""
COMPONENT = "app.kubernetes.io/instance=capstan,app.kubernetes.io/component="
ENGINE = {"type": "Simulator", "args": ["--ttft-ms", "20", "--tpot-ms", "20", "--chunk-tokens", "4"]}
WAITS, EITHER, ASLEEP = "waits", "either", "asleep"
SCALING = {
    "targets": {"inFlightPerReplica": 2},
    "coldStartSeconds": 5,
    "idleSeconds": 10,
    "scaleDownStabilizationSeconds": 5,
}
MODELS = (
    simulated(WAITS, model={"servedName": WAITS}, engine=ENGINE, replicas=2, dispatch="Queue", queue={"places": 4}),
    simulated(
        EITHER,
        model={"servedName": EITHER},
        engine=ENGINE,
        queue={"places": 2},
        scaling={"min": 1, "max": 2, **SCALING},
    ),
    simulated(
        ASLEEP,
        model={"servedName": ASLEEP},
        engine=ENGINE,
        queue={"places": 2},
        scaling={"min": 0, "max": 3, **SCALING},
    ),
)
"""One that is always asked by the queue, one directly as long as it has room, and one that is at zero."""
LINES = 60
METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics', timeout=30).read().decode())"


def _values(*, note: str, worker: str) -> Manifest:
    """Few rights, and what makes every pod of Capstan and of its models anew when it is another one."""
    values = queued_values()
    annotations = {"podAnnotations": {"example.com/note": note}}
    values["operator"] = {"watchNamespaces": [NAMED], "readNodes": False, **annotations}
    values["gateway"] |= annotations
    values["redis"] |= annotations
    values["models"] = {"workerImage": {"tag": worker}}
    values["networkPolicies"] = {"enabled": True}
    return values


@pytest.fixture(scope="module")
def queued(capstan: Cluster) -> Iterator[Cluster]:
    """The chart with a queue, and Roles in one namespace, which has three models."""
    install_queue(capstan, _values(note="first", worker=TAG), models=NAMED)
    capstan.apply(NAMED, *MODELS)
    for name in (WAITS, EITHER):
        capstan.wait_settled(name, NAMED, seconds=120)
    capstan.wait_ready(ASLEEP, NAMED, reason="Idle")
    yield capstan
    remove_queue(capstan, models=NAMED)


@pytest.fixture
def client(gateway: str) -> Iterator[openai.OpenAI]:
    """The official client, which asks again when a connection breaks."""
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", timeout=120, max_retries=8) as client:
        yield client


def _replicas(cluster: Cluster, name: str) -> int:
    return int((cluster.get("deployments", f"{name}-model", NAMED) or {})["spec"]["replicas"])


def _ready(cluster: Cluster, name: str) -> int:
    return int((cluster.get("deployments", f"{name}-model", NAMED) or {})["status"].get("readyReplicas") or 0)


def _restarts(pods: list[Manifest]) -> int:
    return sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses") or ())


def test_official_client_is_answered_by_the_queue(queued: Cluster, client: openai.OpenAI, gateway: str) -> None:
    """Whole answers and streams of `dispatch: Queue` come by the queue; with `Auto` only those that find no free
    place do."""
    question: Any = [{"role": "user", "content": "count"}]
    create = client.chat.completions.with_raw_response.create
    whole = create(model=WAITS, messages=question)
    stream = create(model=WAITS, messages=question, stream=True)
    for answer in (whole, stream):
        assert "x-capstan-queue-place" in answer.headers
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream.parse() if chunk.choices)
    assert said == whole.parse().choices[0].message.content
    assert "x-capstan-queue-place" not in create(model=EITHER, messages=question).headers
    with Traffic(gateway, EITHER, clients=10) as traffic:
        traffic.wait_for(30)
    print(traffic.report)
    assert traffic.report.failures == []
    assert 0 < traffic.report.queued < traffic.report.answered


def test_killed_worker(queued: Cluster, gateway: str) -> None:
    """When a worker is killed under load every request is answered all the same, by the right text and once, but for
    streams that it had begun: those end with an error."""
    with Traffic(gateway, WAITS, clients=12) as traffic:
        killed = queued.list("pods", NAMED, f"capstan.dev/model={WAITS}")[0]["metadata"]
        queued.kill(killed["name"], NAMED)

        def is_back() -> bool:
            pods = queued.list("pods", NAMED, f"capstan.dev/model={WAITS}")
            assert {pod["metadata"]["uid"] for pod in pods} >= {killed["uid"]}
            assert _restarts(pods) == 1, pods
            return _ready(queued, WAITS) == 2

        wait_until(is_back, seconds=120, every=0.3, what="the container that was killed")
        traffic.wait_for(36)
    print(f"{traffic.report}; {len(traffic.report.failures)} streams broke off")
    assert traffic.report.answered == traffic.report.queued
    assert [failure for failure in traffic.report.failures if not failure.startswith(BROKEN)] == []
    assert len(traffic.report.failures) <= 4  # It had no more places.


def test_batch_of_a_gateway_that_is_killed(queued: Cluster, client: openai.OpenAI) -> None:
    """A batch by the official client goes on in another gateway when the one that works on it is killed: each line is
    in its results, and once."""
    # Two seconds for each line, eight at a time: it still goes on when a busy machine has found out who works on it.
    body = {"model": WAITS, "max_tokens": 100, "min_tokens": 100}
    lines = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**body, "messages": [{"role": "user", "content": f"count from {number}"}]},
        }
        for number in range(LINES)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

    def has_begun() -> bool:
        counts = client.batches.retrieve(batch.id).request_counts
        return counts is not None and counts.completed > 0

    wait_until(has_begun, every=0.1, what="a first answer of the batch")
    running = [pod["metadata"]["name"] for pod in queued.list("pods", NAMESPACE, COMPONENT + "gateway")]
    (busy,) = (pod for pod in running if "\ngateway_batches_running 1" in _metrics(queued, pod))
    queued.kill(busy, NAMESPACE)
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    assert counts.completed < LINES
    wait_until(
        lambda: client.batches.retrieve(batch.id).status == "completed",
        seconds=300, every=0.5, what="the end of the batch",
    )  # fmt: skip
    ended = client.batches.retrieve(batch.id)
    assert ended.request_counts is not None
    assert (ended.request_counts.completed, ended.request_counts.failed) == (LINES, 0)
    assert ended.error_file_id is None
    assert ended.output_file_id
    results = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    assert sorted(result["custom_id"] for result in results) == sorted(str(line["custom_id"]) for line in lines)
    assert {result["response"]["status_code"] for result in results} == {200}


def _metrics(cluster: Cluster, pod: str) -> str:
    return cluster.kubectl("exec", pod, "-n", NAMESPACE, "--", "python", "-c", METRICS)


def test_upgrade_and_rollback_while_requests_wait(queued: Cluster, gateway: str) -> None:
    """While every pod is replaced by an upgrade and by its rollback (operator, gateways, Redis, workers) requests wait
    in the queue all the time, and each is answered; what scaling has decided stays as it is."""
    queued.tag(f"docker.io/capstan/worker:{TAG}", f"docker.io/capstan/worker:{NEXT}")
    with ExitStack() as stack:
        # An answer may take longer than a gateway's drain (3 s here), which then ends its connection behind it: who
        # keeps connections has to ask again where the next request is on its way just then.
        loads = [
            stack.enter_context(Traffic(gateway, name, clients=count, keep=False))
            for name, count in ((WAITS, 14), (EITHER, 8))
        ]
        wait_until(lambda: _ready(queued, EITHER) == 2, seconds=180, what="a second replica")
        for worker, change in ((NEXT, _upgrade), (TAG, _rollback)):
            change(queued)

            def followed(worker: str = worker) -> bool:
                pods = queued.list("pods", NAMED, "app.kubernetes.io/name=llmmodel")
                images = {pod["spec"]["containers"][0]["image"] for pod in pods}
                assert images == {f"docker.io/capstan/worker:{worker}"}, images
                assert len(pods) == 4, [pod["metadata"]["name"] for pod in pods]
                return True

            wait_until(followed, seconds=240, every=0.5, what=f"the image {worker} in every pod, of as many as before")
            for load in loads:
                load.wait_for(20)
                assert load.report.failures == []
    for load in loads:
        print(load.report)
        assert load.report.failures == []
        assert load.report.queued > 20
    assert _replicas(queued, ASLEEP) == 0


def _upgrade(cluster: Cluster) -> None:
    upgrade(cluster, _values(note="second", worker=NEXT))


def _rollback(cluster: Cluster) -> None:
    cluster.helm("rollback", "capstan", "0", *FLAGS)


def test_from_zero_by_the_queue(queued: Cluster, gateway: str) -> None:
    """Requests for a model at zero wait in the queue until it has come up, and are answered; there are three replicas
    while much is asked of it, and none when nothing is. Without an API for metrics the operator says how many."""
    assert queued.condition(ASLEEP, NAMED, "ScalingActive")["reason"] == "WithoutHPA"
    began = time.monotonic()
    with Traffic(gateway, ASLEEP, clients=8) as traffic:
        print(f"{traffic.report}; eight answers after {time.monotonic() - began:.1f} s")
        assert traffic.report.queued
        wait_until(lambda: _ready(queued, ASLEEP) == 3, seconds=240, every=0.3, what="three replicas")
        traffic.wait_for(16)
    print(traffic.report)
    assert traffic.report.failures == []
    wait_until(lambda: _replicas(queued, ASLEEP) == 0, seconds=120, every=0.3, what="no replica")
    queued.wait_ready(ASLEEP, NAMED, reason="Idle")


def test_redis_wants_passwords(queued: Cluster) -> None:
    """Redis answers those who know its password, workers with their own about queues alone, and nobody else."""

    def ask(*words: str) -> str:
        return queued.kubectl("exec", "capstan-redis-0", "-n", NAMESPACE, "--", "env", *words, check=False)

    def as_worker(*words: str) -> str:
        return ask(f"REDISCLI_AUTH={WORKER_PASSWORD}", "redis-cli", "--user", "capstan-worker", *words)

    wait_until(lambda: ask("redis-cli", "ping").strip() == "PONG", what="a PONG with the password of the environment")
    assert "NOAUTH" in ask("-u", "REDISCLI_AUTH", "redis-cli", "ping")
    assert as_worker("ping").strip() == "PONG"
    assert as_worker("exists", "capstan:queue:none").strip() == "0"
    for words in (("get", "capstan:l:none"), ("keys", "*"), ("flushall",), ("acl", "list")):
        assert "NOPERM" in as_worker(*words), words


def test_roles_are_enough(queued: Cluster) -> None:
    """In all of that the operator, the gateways and the workers were refused nothing."""
    assert queued.get("networkpolicies", f"{WAITS}-model", NAMED)
    for name in ("operator", "gateway"):
        logs = queued.kubectl("logs", "-l", COMPONENT + name, "-n", NAMESPACE, "--tail=-1")
        assert "orbidden" not in logs
        assert "NOPERM" not in logs
    assert "NOPERM" not in queued.kubectl("logs", "-l", f"capstan.dev/model={WAITS}", "-n", NAMED, "--tail=-1")
