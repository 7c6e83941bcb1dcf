"""Config from a directory: taken at once, swapped without a failed request, kept when the new one is bad."""

import asyncio
import os
from pathlib import Path

import aiohttp

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.sharding import split_config
from fakes.openai_upstream import FakeUpstream
from support.gateway import entry, running_gateway, write_config
from support.wait import eventually

CHAT = "/v1/chat/completions"


def _body(model: str, *, stream: bool = False) -> dict:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}


async def _report(http: aiohttp.ClientSession) -> dict:
    async with http.get("/internal/config") as response:
        return dict(await response.json())


async def test_hundred_reloads_under_load_fail_no_request(tmp_path: Path, upstream: FakeUpstream) -> None:
    """While configs change, with names and generations, every request is answered whole."""
    failed: list[object] = []
    served = 0
    running = True

    async def load(http: aiohttp.ClientSession, *, stream: bool) -> None:
        nonlocal served
        while running:
            async with http.post(CHAT, json=_body("chat", stream=stream)) as response:
                text = await response.text()
                if response.status != 200 or (stream and not text.endswith("data: [DONE]\n\n")):
                    failed.append((response.status, text))
            served += 1

    def models(generation: int) -> list[ModelEntry]:
        # The engine's address, the alias and another model come and go.
        others = [entry(f"other-{generation}", upstream.url)] if generation % 2 else []
        return [entry("chat", upstream.url, generation=generation, aliases=(f"alias-{generation}",)), *others]

    async with running_gateway(tmp_path, *models(0)) as gateway, aiohttp.ClientSession(gateway.url) as http:
        loads = [asyncio.create_task(load(http, stream=bool(number % 2))) for number in range(6)]
        for generation in range(1, 101):
            config = write_config(gateway.directory, models(generation))
            if generation % 10 == 0:
                await eventually(lambda: gateway.gateway.current().hash == config.hash, every=0.01, what="the config")  # noqa: B023
            else:
                await asyncio.sleep(0)
        running = False
        await asyncio.gather(*loads)
        assert (await _report(http))["generations"]["test/chat"] == 100
    assert failed == []
    assert served > 20


async def test_damaged_config_keeps_the_last_good_one(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A config that cannot be used changes nothing but the report and the metric; the next good one clears both."""
    async with (
        running_gateway(tmp_path, entry("chat", upstream.url)) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        good = await _report(http)
        errors = gateway.metric("gateway_config_reload_total", result="error")
        hash_ = gateway.gateway.current().hash
        assert good == {"hash": hash_, "generations": {"test/chat": 1}, "error": None, "refused": {}}
        for damaged, word in (("{", "not JSON"), ('{"schemaVersion": 3}', "schemaVersion"), (None, "is not in")):
            file = gateway.directory / "config.json"
            if damaged is None:
                file.unlink()
            else:
                # At once, or what is there between two writes is an error of its own.
                (gateway.directory / "..next").write_text(damaged)
                (gateway.directory / "..next").replace(file)
            await eventually(lambda: word in (gateway.gateway.store.error or ""), what=f"the error about {word}")  # noqa: B023
            async with http.post(CHAT, json=_body("chat")) as response:
                assert response.status == 200
        report = await _report(http)
        assert report["hash"] == good["hash"]
        assert "config.json" in report["error"]
        assert gateway.metric("gateway_config_last_reload_success") == 0
        assert gateway.metric("gateway_config_reload_total", result="error") == errors + 3
        await gateway.configure(entry("chat", upstream.url, generation=2))
        assert (await _report(http))["error"] is None
        assert gateway.metric("gateway_config_last_reload_success") == 1


async def test_symlink_swap_of_a_mounted_config_map(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The kubelet replaces a directory behind a symlink: that is noticed as well."""

    def mount(directory: Path, number: int, *models: ModelEntry) -> None:
        fresh = directory / f"..data_{number}"
        fresh.mkdir()
        for name, text in split_config(GatewayConfig.build(models)).items():
            (fresh / name).write_text(text)
        swap = directory / "..data_tmp"
        swap.symlink_to(fresh.name)
        os.rename(swap, directory / "..data")
        visible = directory / "config.json"
        if not visible.is_symlink():
            visible.symlink_to("..data/config.json")

    async with running_gateway(tmp_path) as gateway, aiohttp.ClientSession(gateway.url) as http:
        async with http.get("/readyz") as response:
            assert (response.status, (await response.json())["reason"]) == (503, "no config yet")
        async with http.post(CHAT, json=_body("one")) as response:
            assert response.status == 503
        for number, name in enumerate(("one", "two")):
            mount(gateway.directory, number, entry(name, upstream.url))
            await eventually(lambda: name in getattr(gateway.gateway.current(), "models", ()), what=name)  # noqa: B023
            async with http.post(CHAT, json=_body(name)) as response:
                assert response.status == 200
        async with http.get("/readyz") as response:
            assert response.status == 200


async def test_shards_are_joined(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A config in shards is used when all of its parts are there, and not before."""
    models = tuple(entry(f"model-{number}", upstream.url) for number in range(20))
    documents = split_config(GatewayConfig.build(models), shard_bytes=3000)
    assert len(documents) > 3
    async with running_gateway(tmp_path) as gateway:
        late = documents.pop("shard-a-2.json")
        for name, text in documents.items():
            (gateway.directory / name).write_text(text)
        await eventually(lambda: "shard-a-2.json is missing" in (gateway.gateway.store.error or ""), what="the error")
        (gateway.directory / "shard-a-2.json").write_text(late)
        await eventually(lambda: gateway.gateway.current() is not None, what="the config")
        assert len(gateway.gateway.current().models) == 20


async def test_a_request_keeps_the_config_that_it_began_with(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model that is deleted while it answers finishes its answer."""
    go_on = asyncio.Event()

    async def slow(received: object, wire: object) -> None:
        await go_on.wait()
        await healthy(received, wire)

    healthy, upstream.respond = upstream.respond, slow
    async with (
        running_gateway(tmp_path, entry("chat", upstream.url)) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        asking = asyncio.create_task(http.post(CHAT, json=_body("chat")))
        await eventually(lambda: upstream.active == 1, what="the request")
        await gateway.configure(entry("another", upstream.url))
        go_on.set()
        response = await asking
        assert response.status == 200
        response.release()
        async with http.post(CHAT, json=_body("chat")) as response:
            assert response.status == 404


async def test_what_is_refused_is_told_and_the_others_are_served(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model that requires what this release does not know is gone, also if it was served before; the report and the
    metric say so, and clear when it requires it no longer."""
    guarded = entry("guarded", upstream.url, requires=("guard/v2",))
    async with (
        running_gateway(tmp_path, entry("guarded", upstream.url), entry("plain", upstream.url)) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        await gateway.configure(guarded, entry("plain", upstream.url))
        for name, status in (("guarded", 404), ("plain", 200)):
            async with http.post(CHAT, json=_body(name)) as response:
                assert response.status == status
        report = await _report(http)
        assert (report["refused"], report["error"]) == ({"test/guarded": ["guard/v2"]}, None)
        assert gateway.metric("gateway_config_refused_entries") == 1
        assert gateway.metric("gateway_config_last_reload_success") == 1
        await gateway.configure(entry("guarded", upstream.url), entry("plain", upstream.url))
        assert (await _report(http))["refused"] == {}
        assert gateway.metric("gateway_config_refused_entries") == 0
        async with http.post(CHAT, json=_body("guarded")) as response:
            assert response.status == 200
