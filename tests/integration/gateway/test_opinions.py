"""What clients say of how good answers were: from the answer to the admin's page, and at another replica."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import RouterBackend, RouterMember, StickyBy, Strategy
from capstan_contract.feedback import FEEDBACK_PATH, MOST_COMMENT, Feedback, read_feedback_page
from capstan_contract.tracks import EXPERIMENTS_PATH, Quantity, read_experiments
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

ADMIN = "an-admin-key-of-more-than-sixteen-bytes"
FEEDBACK = "/v1/feedback"
TEXT = "the secret is plum"
MESSAGES: Any = [{"role": "user", "content": TEXT}]
KEYS = [key_entry(name, tenant=name, user=name) for name in ("ann", "bob")]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


def client_of(gateway: RunningGateway, key: str | None = "ann") -> httpx2.AsyncClient:
    """Give a client, of somebody."""
    headers = None if key is None else {"authorization": f"Bearer {key_text(key)}"}
    return httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=60)


def _with_admin(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "admin"
    file.write_text(ADMIN)
    return file


@asynccontextmanager
async def opened(folder: Path, *models: Any, **settings: Any) -> AsyncIterator[RunningGateway]:
    """Start a gateway with keys of two tenants, and an admin."""
    file = _with_admin(folder)
    running = running_gateway(folder, *models, keys=KEYS, insecure_no_auth=False, admin_key_file=file, **settings)
    async with running as gateway:
        yield gateway


async def kept(gateway: RunningGateway, **query: Any) -> tuple[Feedback, ...]:
    """Read what was said, as the admin."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        page = await client.get(FEEDBACK_PATH, params=query, headers={"authorization": f"Bearer {ADMIN}"})
        assert page.status_code == 200, page.text
        return read_feedback_page(page.content).data


async def ask(client: httpx2.AsyncClient, path: str = "/v1/chat/completions", **fields: Any) -> str:
    """Ask, and give the id of the answer as the client reads it."""
    body: dict[str, Any] = {"model": "chat", **fields}
    if path == "/v1/completions":
        body["prompt"] = TEXT
    elif path == "/v1/responses":
        body["input"] = TEXT
    else:
        body |= {"messages": MESSAGES, "max_tokens": 9}
    said = await client.post(path, json=body)
    assert said.status_code == 200, said.text
    if not body.get("stream"):
        return str(said.json()["id"])
    first = next(json.loads(line[6:]) for line in said.text.splitlines() if line.startswith("data: {"))
    for name in ("message", "response"):
        first = first.get(name, first)
    return str(first["id"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"])
async def test_every_answer_can_be_spoken_of(path: str, stream: bool, upstream: FakeUpstream, tmp_path: Path) -> None:
    """In each dialect, whole or streamed, the id that the client reads names the answer."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, client_of(gateway) as client:
        id = await ask(client, path, stream=stream)
        said = await client.post(FEEDBACK, json={"response_id": id, "label": "bad", "comment": "no"})
        assert said.status_code == 200, said.text
        assert said.json() == {
            "object": "feedback", "response_id": id, "score": 0.0, "label": "bad", "changed": False,
        }  # fmt: skip
        (one,) = await kept(gateway)
        assert (one.id, one.model, one.tenant, one.score, one.comment) == (id, "chat", "ann", 0.0, "no")
        assert one.requestId


async def test_what_is_said_again_takes_its_place(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The same twice is one, another opinion replaces it; the metric counts by model and label."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, client_of(gateway) as client:
        id = await ask(client)
        for score in (1, 1, 0.25):
            said = await client.post(FEEDBACK, json={"response_id": id, "score": score, "source": "annotator"})
            assert said.status_code == 200, said.text
        assert (said.json()["changed"], said.json()["label"]) == (True, "bad")
        (one,) = await kept(gateway)
        assert (one.score, one.source) == (0.25, "annotator")
        assert gateway.metric("llm_feedback_total", model="chat", label="good", outcome="new") == 1
        assert gateway.metric("llm_feedback_total", model="chat", label="bad", outcome="changed") == 1


async def test_a_tenant_speaks_of_its_own_answers_alone(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another tenant's id is answered as one that there is not, word for word; nobody speaks without a credential."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, AsyncExitStack() as stack:
        mine, theirs, nobody = [
            await stack.enter_async_context(client_of(gateway, key)) for key in ("ann", "bob", None)
        ]
        id = await ask(mine)
        stolen = await theirs.post(FEEDBACK, json={"response_id": id, "label": "bad"})
        absent = await theirs.post(FEEDBACK, json={"response_id": "chatcmpl-none", "label": "bad"})
        assert (stolen.status_code, stolen.json()) == (absent.status_code, absent.json())
        assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "answer_not_found")
        assert (await nobody.post(FEEDBACK, json={"response_id": id, "label": "bad"})).status_code == 401
        assert (await mine.get(FEEDBACK_PATH)).status_code == 401
        assert await kept(gateway) == ()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"label": "bad"}, "response_id"),
        ({"response_id": "", "label": "bad"}, "response_id"),
        ({"response_id": "x" * 257, "label": "bad"}, "response_id"),
        ({"response_id": "x", "label": "terrible"}, "label"),
        ({"response_id": "x", "label": ["bad"]}, "label"),
        ({"response_id": "x", "label": None}, "score"),
        ({"response_id": "x", "label": "bad", "score": 1}, "score"),
        ({"response_id": "x", "score": 1.5}, "score"),
        ({"response_id": "x", "score": -1}, "score"),
        ({"response_id": "x", "score": True}, "score"),
        ({"response_id": "x", "score": "1"}, "score"),
        ({"response_id": "x", "score": 1, "comment": "c" * (MOST_COMMENT + 1)}, "comment"),
        ({"response_id": "x", "score": 1, "comment": 7}, "comment"),
        ({"response_id": "x", "score": 1, "source": "judge"}, "source"),
        ({"response_id": "x", "score": 1, "source": {}}, "source"),
        ({"response_id": "x", "score": 1, "wrong": True}, "wrong"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    body: dict[str, Any], param: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """What is wrong, and what is allowed, by the field that it is about."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, client_of(gateway) as client:
        said = await client.post(FEEDBACK, json=body)
    assert (said.status_code, said.json()["error"]["param"]) == (400, param), said.text


async def test_errors_are_in_the_clients_dialect(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Whoever speaks Anthropic's API gets its form of an error."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, client_of(gateway) as client:
        said = await client.post(
            FEEDBACK, json={"response_id": "msg_none", "label": "bad"}, headers={"anthropic-version": "2023-06-01"}
        )
        assert (said.status_code, said.json()["type"]) == (404, "error")


async def test_a_tenant_cannot_flood(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Too much at once is refused with when to try again, and other tenants are not kept from speaking."""
    async with opened(tmp_path / "g", entry("chat", upstream.url)) as gateway, AsyncExitStack() as stack:
        mine, theirs = [await stack.enter_async_context(client_of(gateway, key)) for key in ("ann", "bob")]
        for _ in range(100_000):
            said = await mine.post(FEEDBACK, json={"response_id": "x", "label": "bad"})
            if said.status_code != 404:
                break
        assert (said.status_code, said.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(said.headers["retry-after"]) >= 1
        assert (await theirs.post(FEEDBACK, json={"response_id": "x", "label": "bad"})).status_code == 404


async def test_it_can_be_said_at_another_replica(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """With Redis another replica than the one that answered takes what is said; both tell it, it counts once for the
    member of the router that answered, and the counts outlive a replica."""
    members = tuple(RouterMember(model=f"test/{name}", weight=1) for name in ("a", "b"))
    router = entry("chat", backend=RouterBackend(strategy=Strategy.WEIGHTED, stickyBy=StickyBy.USER, members=members))
    models = entry("a", upstream.url), entry("b", upstream.url), router
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(opened(tmp_path / name, *models, redis_url=redis.url)) for name in "xy"
        ]
        here, there = [await stack.enter_async_context(client_of(gateway)) for gateway in gateways]
        id = await ask(here)

        async def said() -> bool:
            answered = await there.post(FEEDBACK, json={"response_id": id, "score": 0.75})
            return answered.status_code == 200

        await eventually(said)
        assert (await here.post(FEEDBACK, json={"response_id": id, "score": 0.25})).json()["changed"]
        for gateway in gateways:
            (one,) = await kept(gateway)
            assert (one.id, one.score, one.asked) == (id, 0.25, "chat")
            assert one.model in ("a", "b")
            async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as admin:
                page = await admin.get(EXPERIMENTS_PATH, headers={"authorization": f"Bearer {ADMIN}"})
            (found,) = read_experiments(page.content).experiments
            (arm,) = [arm for arm in found.arms if arm.shared.measures]
            assert arm.member == f"test/{one.model}"
            measure = arm.shared.of(Quantity.FEEDBACK)
            assert (measure.count, measure.sum) == (1, 250)


async def test_without_redis_nothing_is_promised(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """While Redis is away requests are answered as always, and what is said is not taken: 503 rather than lost."""
    running = opened(tmp_path / "g", entry("chat", upstream.url), redis_url=redis.url)
    async with running as gateway, client_of(gateway) as client:
        redis.kill()
        id = await ask(client)
        said = await client.post(FEEDBACK, json={"response_id": id, "label": "bad"})
        assert (said.status_code, said.json()["error"]["code"]) == (503, "store_unavailable")


async def test_nothing_is_noted_where_it_is_off(upstream: FakeUpstream, tmp_path: Path) -> None:
    """With --feedback-answers 0 an answer cannot be spoken of, and the admin has no page of it."""
    running = opened(tmp_path / "g", entry("chat", upstream.url), feedback_answers=0)
    async with running as gateway, client_of(gateway) as client:
        id = await ask(client)
        assert (await client.post(FEEDBACK, json={"response_id": id, "label": "bad"})).status_code == 400
        page = await client.get(FEEDBACK_PATH, headers={"authorization": f"Bearer {ADMIN}"})
        assert page.status_code == 404


async def test_no_word_of_it_is_logged(
    upstream: FakeUpstream, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither comment nor prompt stand in the log or in a metric."""
    async with opened(tmp_path / "g", entry("chat", upstream.url), log_level="debug") as gateway:
        async with client_of(gateway) as client:
            id = await ask(client)
            await client.post(FEEDBACK, json={"response_id": id, "label": "bad", "comment": "utter rubbish"})
        await gateway.settled()
        page = gateway.gateway.metrics.render().decode()
    out, err = capfd.readouterr()
    for text in (page, out, err):
        assert "utter rubbish" not in text
        assert "plum" not in text
