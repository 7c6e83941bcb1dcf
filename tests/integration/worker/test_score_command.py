"""`capstan-worker score` as a process: from samples on Redis to the page that the operator asks."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.evaluation import SCORES_PATH, read_scores
from capstan_contract.queue.wire import Packing
from capstan_contract.samples import PLANS, Plan, Sample, Turn, put_call, write_sample
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.ports import free_port
from support.redis_server import redis_server
from support.samples import MODEL_ID, evaluation
from support.wait import eventually

SECRET = "a secret of thirty-two characters"


def _started(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


@pytest.mark.redis
async def test_samples_are_judged_through_the_gateway(tmp_path: Path) -> None:
    """With its own key, under ids by which no answer is sampled, one criterion a call, in a form that is asked for;
    what is said of it names no text. A signal ends it well."""
    seen: list[Received] = []

    async def judge(request: Received, wire: Wire) -> None:
        seen.append(request)
        await wire.json(completion(request.document["model"], '{"reason": "so", "verdict": "yes"}'))

    key_file = tmp_path / "key"
    key_file.write_text("sk-capstan-scorer\n")
    port = free_port()
    with redis_server(tmp_path) as server:
        plan = Plan(evaluation=evaluation(), model="m", judge="the-judge")
        sample = Sample(
            id="r", model=MODEL_ID, prompt=(Turn(role="user", text="secret-word"),), answer="Good day.", at=4e9
        )
        data = write_sample(sample, Packing(SECRET.encode()))
        call = put_call(MODEL_ID, plan.model_dump_json(), data, plan.evaluation, most=10)
        redis: Any = server.client()
        redis.eval(call.script, len(call.keys), *call.keys, *call.arguments)
        async with FakeUpstream(judge) as gateway, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            flags = {
                "--redis-url": server.url, "--gateway-url": gateway.url, "--gateway-key-file": str(key_file),
                "--evaluation-secret": SECRET, "--worker-port": str(port),
            }  # fmt: skip
            command = [
                sys.executable,
                "-m",
                "capstan_worker",
                "score",
                *(word for pair in flags.items() for word in pair),
            ]
            process = _started(command, tmp_path / "log")
            try:

                async def scored() -> bool:
                    try:
                        async with client.get(SCORES_PATH) as response:
                            found = read_scores(await response.read()).models if response.status == 200 else {}
                    except aiohttp.ClientError:
                        return False
                    return bool(found.get(MODEL_ID))

                await eventually(scored, what="a score", seconds=60)
                (score,) = read_scores(await (await client.get(SCORES_PATH)).read()).models[MODEL_ID]
                assert (score.criterion, score.count, score.mean) == ("polite", 1, 1.0)
                metrics = await (await client.get("/metrics")).text()
                assert 'llm_eval_score{model="m",eval_type="polite",track="",revision=""} 1.0' in metrics
                assert (await client.get("/readyz")).status == 200
                assert (await client.get("/elsewhere")).status == 404
                process.send_signal(signal.SIGTERM)
                await eventually(lambda: process.poll() is not None, what="its end", seconds=60)
                assert process.returncode == 0
            finally:
                process.kill()
                process.wait()
        (request,) = seen
        assert request.document["model"] == "the-judge"
        assert request.document["response_format"]["type"] == "json_schema"
        assert "It is polite." in json.dumps(request.document["messages"])
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["authorization"] == "Bearer sk-capstan-scorer"
        assert headers["x-request-id"].startswith("capstan-eval-")
        assert redis.hexists(PLANS, MODEL_ID)
        assert "secret-word" not in (tmp_path / "log").read_text() + metrics


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "redis-url"),
        (["--redis-url", "redis://localhost"], "gateway-url"),
        (["--redis-url", "redis://localhost", "--gateway-url", "gateway:80"], "gateway-url"),
        (
            ["--redis-url", "redis://h", "--gateway-url", "http://g", "--evaluation-secret", "short"],
            "evaluation-secret",
        ),
        (["--redis-url", "redis://h", "--gateway-url", "http://g", "--judge-concurrency", "0"], "judge-concurrency"),
    ],
)
def test_what_cannot_be_used_is_named(flags: list[str], named: str) -> None:
    """One line, exit code 2."""
    command = [sys.executable, "-m", "capstan_worker", "score", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
