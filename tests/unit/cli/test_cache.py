"""`capstan cache`: which replicas are asked, and what is printed."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from capstan_operator.cli.main import main
from support.kubeconfig import write_kubeconfig

KEY = "admin-admin-admin-admin"
ID = "4f0c" * 8
COUNTS = {
    "mode": "Enforce", "memoryHits": 5, "redisHits": 2, "semanticHits": 1, "misses": 2, "bypassed": 3, "stored": 2,
    "entries": 4, "bytes": 1000, "savedTokens": 70, "savedNanoDollars": 1_500_000,
}  # fmt: skip
STATS: dict[str, Any] = {"object": "cache.stats", "policies": {"CachePolicy/team/faq": COUNTS}}
ENTRY: dict[str, Any] = {"object": "cache.entry", "key": ID, "model": "team/a", "tier": "memory", "age": 3}
ABSENT = {"error": {"message": "nothing is kept under this key", "code": "entry_not_found"}}
PODS = ("gateway-1", "gateway-2")


class Cluster:
    """An API server with two gateways behind its proxy, and one that is not ready."""

    def __init__(self) -> None:
        self.everywhere = True
        self.answers: dict[str, tuple[int, Any]] = {}
        """What a pod says instead."""
        self.asked: list[tuple[str, str, Any]] = []
        """Of whom, which page, and with which body or key."""
        self.keys: set[str | None] = set()

    def app(self) -> web.Application:
        """Give what serves it."""
        app = web.Application()
        root = "/api/v1/namespaces/capstan-system"
        app.router.add_get(f"{root}/services", self._services)
        app.router.add_get(f"{root}/secrets/capstan-gateway-admin", self._secret)
        app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/capstan-system/endpointslices", self._slices)
        app.router.add_route("*", f"{root}/{{kind}}/{{name}}/proxy/{{page:.*}}", self._page)
        return app

    async def _services(self, _: web.Request) -> web.Response:
        items = [{"metadata": {"name": "capstan-gateway-metrics", "uid": "u", "resourceVersion": "1"}}]
        return web.json_response({"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": items})

    async def _secret(self, _: web.Request) -> web.Response:
        data = {"admin-key": base64.b64encode(KEY.encode()).decode()}
        return web.json_response({"metadata": {"name": "capstan-gateway-admin"}, "data": data})

    async def _slices(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "kubernetes.io/service-name=capstan-gateway-metrics"
        ready = [{"addresses": ["10.0.0.1"], "targetRef": {"name": name}} for name in PODS]
        down = {"addresses": ["10.0.0.9"], "targetRef": {"name": "down"}, "conditions": {"ready": False}}
        ports = [{"name": "metrics", "port": 9090}]
        item = {"metadata": {"name": "s", "uid": "u"}, "endpoints": [*ready, down], "ports": ports}
        return web.json_response({"kind": "L", "metadata": {"resourceVersion": "1"}, "items": [item]})

    async def _page(self, request: web.Request) -> web.Response:
        name, page = request.match_info["name"], request.match_info["page"]
        body = await request.json() if request.method == "POST" else request.query.get("key")
        self.asked.append((f"{request.match_info['kind']}/{name}", page, body))
        self.keys.add(request.headers.get("x-api-key"))
        usual = {
            "admin/cache/purge": {"object": "cache.purge", "everywhere": self.everywhere},
            "admin/cache/reset": {"object": "cache.reset", "everywhere": self.everywhere},
            "admin/cache/stats": STATS,
            "admin/cache/entry": ENTRY,
        }
        status, answer = self.answers.get(name.partition(":")[0], (200, usual[page]))
        return web.json_response(answer, status=status)


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A cluster that the kubeconfig names."""
    made = Cluster()
    async with TestServer(made.app()) as server:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, server.port)))
        monkeypatch.delenv("CAPSTAN_ADMIN_KEY", raising=False)
        yield made


async def cache(*words: str) -> int:
    """Run the command beside the loop."""
    return await asyncio.to_thread(main, ["cache", *words])


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("--all",), {"all": True}),
        (("--model", "team/a"), {"model": "team/a"}),
        (("--tenant", "red"), {"tenant": "red"}),
        (("--entry", ID), {"entry": ID}),
    ],
)
async def test_a_purge_that_all_hear_of_is_asked_once(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], body: dict[str, Any]
) -> None:
    """With Redis any replica is asked, by the Service, with the admin's key; nothing else is purged than was said."""
    assert await cache("purge", *words) == 0
    assert cluster.asked == [("services/capstan-gateway-metrics:metrics", "admin/cache/purge", body)]
    assert cluster.keys == {KEY}
    assert "every gateway replica" in capsys.readouterr().out


async def test_without_redis_each_replica_purges(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Each ready pod is asked for itself; where one does not answer, that is said, and the command fails."""
    cluster.everywhere = False
    assert await cache("purge", "--all") == 0
    assert {of for of, *_ in cluster.asked[1:]} == {f"pods/{name}:9090" for name in PODS}
    assert "purged on 2 gateway replicas" in capsys.readouterr().out
    cluster.answers["gateway-2"] = 503, {"message": "no route to it"}
    assert await cache("purge", "--all") == 1
    told = capsys.readouterr().err
    assert "purged on 1 of 2 gateway replicas, and not on gateway-2" in told
    assert "no route to it" in told


async def test_a_tier_that_is_off_is_reset(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured of a policy begins anew: by any replica where all hear of it, else by each."""
    assert await cache("reset", "team/faq") == 0
    assert [(page, body) for _, page, body in cluster.asked] == [("admin/cache/reset", {"policy": "team/faq"})]
    assert capsys.readouterr().out.startswith("reset: every gateway replica")
    cluster.everywhere = False
    assert await cache("reset", "team/faq") == 0
    assert len(cluster.asked) == 2 + len(PODS)
    assert "reset on 2 gateway replicas" in capsys.readouterr().out


async def test_what_to_purge_has_to_be_said(cluster: Cluster) -> None:
    """Nobody purges everything by leaving a word out, or two things when one was meant."""
    for words in ((), ("--all", "--model", "a")):
        with pytest.raises(SystemExit):
            await cache("purge", *words)
    assert cluster.asked == []


async def test_stats_are_those_of_all_replicas(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Each replica counts for itself, so the table has their sums; the JSON has each."""
    assert await cache("stats") == 0
    head, row, since = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["policy", "mode", "hits", "misses"]
    assert row.split() == ["team/faq", "Enforce", "16", "4", "80", "6", "8", "2000", "140", "0.003000"]
    assert since == "of 2 gateway replicas, each since it began"
    assert await cache("stats", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == dict.fromkeys(PODS, STATS)


async def test_no_policy_is_said(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster without caches is no error."""
    cluster.answers = dict.fromkeys(PODS, (200, {"object": "cache.stats", "policies": {}}))
    assert await cache("stats") == 0
    assert capsys.readouterr().out == "no CachePolicy is in force\n"


async def test_an_entry_is_looked_for_everywhere(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """What one replica keeps in its memory is found, whichever it is; where none has it, that is said."""
    cluster.answers["gateway-1"] = 404, ABSENT
    assert await cache("inspect", ID) == 0
    assert {body for *_, body in cluster.asked} == {ID}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gateway-2:"
    assert "  model: team/a" in lines
    cluster.answers["gateway-2"] = 404, ABSENT
    assert await cache("inspect", ID) == 1
    assert "no gateway replica keeps anything under this key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (403, {"kind": "Status", "message": "forbidden"}, "you may not `get` pods/proxy"),
        (401, {"error": {"message": "the API key is not valid"}}, "give the admin key with --key-file"),
        (404, {"error": {"message": "unknown route: GET /admin/cache/stats"}}, "this gateway has no caches"),
        (200, {"object": "list"}, "no gateway's admin port"),
    ],
)
async def test_what_is_refused_is_said_in_one_line(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], status: int, answer: dict[str, Any], said: str
) -> None:
    """With what can be done."""
    cluster.answers = dict.fromkeys(PODS, (status, answer))
    assert await cache("stats") == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


async def test_capstan_up_is_one_replica(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address and its key are in its state directory; it shares nothing with anybody."""
    monkeypatch.delenv("CAPSTAN_ADMIN_KEY", raising=False)
    heard: list[Any] = []

    async def purge(request: web.Request) -> web.Response:
        heard.append((request.headers["authorization"], await request.json()))
        return web.json_response({"object": "cache.purge", "everywhere": False})

    app = web.Application()
    app.router.add_post("/admin/cache/purge", purge)
    async with TestServer(app) as server:
        (tmp_path / "gateway-url").write_text(f"http://127.0.0.1:{server.port}\n")
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "admin-key").write_text(f"{KEY}\n")
        assert await cache("purge", "--model", "a", "--state-dir", str(tmp_path)) == 0
    assert set(map(str, heard)) == {str((f"Bearer {KEY}", {"model": "a"}))}
    assert "purged on 1 gateway replica" in capsys.readouterr().out
