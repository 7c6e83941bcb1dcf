"""`capstan usage`: from where it is asked, and what is said where nobody answers."""

import asyncio
import base64
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from capstan_operator.cli.admin_source import checked, given_key
from capstan_operator.cli.main import main
from capstan_operator.cli.usage import written
from support.kubeconfig import write_kubeconfig

ROWS: dict[str, Any] = {
    "object": "usage", "source": "redis", "by": ["tenant"],
    "rows": [{"tenant": "red", "requests": 3, "input_tokens": 1, "cached_tokens": 0, "output_tokens": 2,
              "nano_dollars": 5, "unpriced_requests": 0}],
}  # fmt: skip
KEY = "admin-admin-admin-admin"


class Cluster:
    """An API server with a gateway behind its proxy."""

    def __init__(self) -> None:
        self.services = ["capstan-gateway-metrics"]
        self.status = 200
        self.answer: dict[str, Any] = ROWS
        self.secret = f"{KEY} the-next-one-of-the-admin"
        self.asked: list[web.Request] = []

    def app(self) -> web.Application:
        """Give what serves it."""
        app = web.Application()
        root = "/api/v1/namespaces/{namespace}"
        app.router.add_get(f"{root}/services", self._list)
        app.router.add_get(f"{root}/secrets/{{name}}", self._get)
        app.router.add_get(f"{root}/services/{{service}}/proxy/internal/usage", self._usage)
        return app

    async def _list(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "app.kubernetes.io/component=gateway-metrics"
        items = [{"metadata": {"name": name, "uid": name, "resourceVersion": "1"}} for name in self.services]
        return web.json_response({"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": items})

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "capstan-gateway-admin" or not self.secret:
            return web.json_response({"kind": "Status", "reason": "NotFound", "message": "not found"}, status=404)
        data = {"admin-key": base64.b64encode(self.secret.encode()).decode()}
        return web.json_response({"metadata": {"name": request.match_info["name"]}, "data": data})

    async def _usage(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A cluster that the kubeconfig names."""
    made = Cluster()
    async with TestServer(made.app()) as server:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, server.port)))
        monkeypatch.delenv("CAPSTAN_ADMIN_KEY", raising=False)
        yield made


async def usage(*words: str) -> int:
    """Run the command beside the loop."""
    return await asyncio.to_thread(main, ["usage", *words])


async def test_a_cluster_is_asked_by_way_of_its_api_server(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an address: the Service of the metrics, with the admin's key in the header that is passed on."""
    assert await usage("--by", "tenant", "--model", "a b", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == ROWS["rows"]
    asked = cluster.asked[0]
    assert asked.match_info["namespace"] == "capstan-system"
    assert asked.match_info["service"] == "capstan-gateway-metrics:metrics"
    assert dict(asked.query) == {"by": "tenant", "model": "a b"}
    assert (asked.headers["x-api-key"], asked.headers["authorization"]) == (KEY, "Bearer me")


async def test_a_key_that_is_given_is_the_one(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then no Secret is read; without a key, and without a Secret, that is said."""
    cluster.secret = ""
    assert await usage() == 1
    assert "--key-file" in capsys.readouterr().err
    (tmp_path / "key").write_text("given-given-given\n")
    assert await usage("--key-file", str(tmp_path / "key"), "-n", "other") == 0
    assert cluster.asked[0].headers["x-api-key"] == "given-given-given"
    assert cluster.asked[0].match_info["namespace"] == "other"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (403, {"kind": "Status", "message": "forbidden"}, "you may not `get` services/proxy"),
        (503, {"kind": "Status", "message": "no endpoints available"}, "refused (503): no endpoints available"),
        (401, {"error": {"message": "the API key is not valid"}}, "give the admin key with --key-file"),
        (404, {"error": {"message": "unknown route"}}, "counts no usage"),
        (200, {"object": "list"}, "no gateway's admin port"),
    ],
)
async def test_what_a_cluster_refuses(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], status: int, answer: dict[str, Any], said: str
) -> None:
    """In one line, with what can be done."""
    cluster.status, cluster.answer = status, answer
    assert await usage() == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


async def test_a_cluster_without_a_gateway(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the namespace is another one."""
    cluster.services = []
    assert await usage() == 1
    assert "no gateway of Capstan's" in capsys.readouterr().err


async def test_no_cluster_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kubeconfig that is none is said in one line."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert await usage() == 1
    assert "no way to reach a Kubernetes API server" in capsys.readouterr().err


async def test_capstan_up_is_asked_by_its_state_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address and its key are in there while it runs."""
    monkeypatch.delenv("CAPSTAN_ADMIN_KEY", raising=False)
    assert await usage("--state-dir", str(tmp_path)) == 1
    assert f"no `capstan up` is running with --state-dir {tmp_path}" in capsys.readouterr().err
    keys: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        keys.append(request.headers["authorization"])
        return web.json_response(ROWS)

    app = web.Application()
    app.router.add_get("/internal/usage", serve)
    async with TestServer(app) as server:
        (tmp_path / "gateway-url").write_text(f"http://127.0.0.1:{server.port}\n")
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "admin-key").write_text(f"short1\n{KEY}\nanother-another-another\n")
        assert await usage("--state-dir", str(tmp_path)) == 0
    assert keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("url", ["http://h:8080/v1", "http://h:8080/v1/", "https://h/v1/models"])
def test_the_address_of_the_api_is_not_that_of_the_admin(url: str) -> None:
    """Who gives the SDKs' base URL is told so, and is not told that the key is wrong."""
    with pytest.raises(ValueError, match="leave /v1"):
        checked(url)
    assert checked("http://h:9090/") == "http://h:9090"


def test_what_gateways_take_for_a_key_is_sent(tmp_path: Path) -> None:
    """The first word that is long enough, as they read the same file; a text without one is refused, not repeated."""
    file = tmp_path / "key"
    for text, key in ((f"short1\n{KEY}", KEY), (f"{KEY} {KEY}2", KEY), ("\n", "")):
        file.write_text(text)
        assert given_key(file) == key
    for text in ("short1", "\u00e9" * 20):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"no admin key in .*: one has 16 printable") as caught:
            given_key(file)
        assert text not in str(caught.value)


NUMBERS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "nano_dollars", "unpriced_requests")
TOLD = {"object": "usage", "by": ["tenant"], "rows": []}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "=a\rb"])
def test_no_name_is_a_formula(name: str) -> None:
    """Issuers of tokens choose names, and a spreadsheet would reckon with what begins like one."""
    row = {**dict.fromkeys(NUMBERS, 0), "tenant": name}
    cells = list(csv.reader(io.StringIO(written({**TOLD, "rows": [row]}, "csv"), newline="")))
    assert [len(row) for row in cells] == [7, 7]
    assert cells[1][0] == "'" + name.replace("\r", "\\r")
    row["tenant"] = "a=b-c"
    assert written({**TOLD, "rows": [row]}, "csv").splitlines()[1].startswith("a=b-c,")


def test_no_name_reaches_the_terminal_as_an_order() -> None:
    """What is not printable is written as an escape, and each row stays one line."""
    row = {**dict.fromkeys(NUMBERS, 0), "tenant": "a\x1b[2J\nb\u202ec \u00e9"}
    lines = written({**TOLD, "rows": [row]}, "table").splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("a\\x1b[2J\\nb\\u202ec \u00e9 ")
