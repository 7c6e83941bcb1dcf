"""The simulator as an engine: places, queue, KV cache, loading."""

import asyncio
from typing import Any

import aiohttp

from support.wait import eventually, wait_until
from support.worker import Worker, get, post_json, simulator

MESSAGES = [{"role": "user", "content": "hello"}]


async def start(client: aiohttp.ClientSession, worker: Worker, **body: Any) -> "asyncio.Task[aiohttp.ClientResponse]":
    """Send a request that goes on until it is ended."""
    url = f"{worker.url}/v1/chat/completions"
    return asyncio.create_task(client.post(url, json={"model": "sim", "messages": MESSAGES, **body}))


async def test_what_does_not_fit_waits_its_turn():
    """With two places the third request waits; when one goes away it runs, first come first served."""
    with simulator("--concurrency", "2", "--ttft-ms", "600000") as started:
        async with aiohttp.ClientSession() as client:
            first, second, third = [await start(client, started) for _ in range(3)]
            running = lambda: started.metric("vllm:num_requests_running")  # noqa: E731
            waiting = lambda: started.metric("vllm:num_requests_waiting")  # noqa: E731
            await eventually(lambda: (running(), waiting()) == (2, 1), what="two running, one waiting")
            first.cancel()
            await eventually(lambda: (running(), waiting()) == (2, 0), what="the third running")
            for task in (second, third):
                task.cancel()
            await eventually(lambda: running() == 0, what="nothing running")
            await asyncio.gather(first, second, third, return_exceptions=True)
    # A waiting request that goes away leaves the queue as well.


async def test_a_waiting_request_that_goes_away_leaves_the_queue():
    """A client that gives up in the queue is taken out of it and counted as aborted."""
    with simulator("--concurrency", "1", "--ttft-ms", "600000") as started:
        async with aiohttp.ClientSession() as client:
            first, second = [await start(client, started) for _ in range(2)]
            await eventually(lambda: started.metric("vllm:num_requests_waiting") == 1, what="one waiting")
            running = first if first.done() is False else second
            for task in (first, second):
                task.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            assert running.cancelled()
            await eventually(lambda: started.metric("capstan_simulator_aborted_total") == 2, what="two aborts")
            assert started.metric("vllm:num_requests_waiting") == 0
            assert started.metric("vllm:kv_cache_usage_perc") == 0


async def test_the_kv_cache_limits_what_runs():
    """Two requests that each need most of the blocks do not run at once although there are places."""
    with simulator("--kv-blocks", "64", "--context-window", "1024", "--ttft-ms", "600000") as started:
        async with aiohttp.ClientSession() as client:
            tasks = [await start(client, started, max_tokens=700, ignore_eos=True) for _ in range(2)]
            await eventually(lambda: started.metric("vllm:num_requests_waiting") == 1, what="one waiting for blocks")
            assert started.metric("vllm:num_requests_running") == 1
            assert 0.6 < started.metric("vllm:kv_cache_usage_perc") < 0.8
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_a_cached_prefix_takes_no_prefill():
    """Only what is not in the prefix cache takes time: the second request with a long prompt has its tokens cached."""
    with simulator("--prefill-tokens-per-second", "100000") as started:
        body = {"model": "sim", "messages": [{"role": "user", "content": "ships " * 2000}], "max_tokens": 1}
        usages = [post_json(f"{started.url}/v1/chat/completions", body)["usage"] for _ in range(2)]
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        assert cached[0] == 0
        assert cached[1] > 1900
        assert started.metric("vllm:prefix_cache_hits_total") == cached[1]
        assert started.metric("vllm:prefix_cache_queries_total") == 2 * usages[0]["prompt_tokens"]
        started.turn(prefixCache=False)
        third = post_json(f"{started.url}/v1/chat/completions", body)["usage"]
        assert third["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_loading_model_is_not_ready():
    """While the model "loads" the process is alive but neither healthy nor ready, and requests get 503."""
    with simulator("--startup-seconds", "600", wait_ready=False) as started:
        wait_until(lambda: get(f"{started.worker_url}/healthz")[0] == 200, what="the worker port")
        assert get(f"{started.worker_url}/readyz") == (503, "the model is loading\n")
        assert wait_until(lambda: get(f"{started.url}/health")[0] == 503, what="the API port")
        assert started.stop() == 0


def test_health_can_be_turned_off():
    """A test can make an engine unhealthy and healthy again."""
    with simulator() as started:
        started.turn(healthy=False)
        assert get(f"{started.url}/health")[0] == 503
        assert not started.is_ready()
        started.turn(healthy=True)
        assert started.is_ready()
