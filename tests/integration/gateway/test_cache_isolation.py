"""A gateway with caches never gives one request's answer to another: tenants, models, adapters, guards, prompts."""

import asyncio
import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import httpx2

from capstan_contract.caches import Bypass, CacheBody, cache_entry
from capstan_contract.config import LoraAdapter, ModelEntry, PolicyEntry
from capstan_contract.guards import GuardBody, KeywordsGuard, Source, guard_entry
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry, running_gateway
from support.keys import key_entry, key_text

CHAT = "/v1/chat/completions"
CACHE, GUARD = "CachePolicy/t/c", "GuardPolicy/t/g"
POLICY = cache_entry("t", "c", CacheBody(bypass=Bypass(tools=False)))
REQUESTS = 2400
AT_ONCE = 12
KEYS = (key_entry("ada", tenant="a", user="ada"), key_entry("bob", tenant="b"), key_entry("cyd", tenant="c"))


def guard(*words: str) -> PolicyEntry:
    """Give a guard that blocks none of what is said here, and has time on a busy machine."""
    found = KeywordsGuard(name="w", keywords=words, appliesTo=(Source.USER,), timeoutMillis=60_000)
    return guard_entry("t", "g", GuardBody(input=(found,)))


def models(url: str, *, revision: str = "1") -> list[ModelEntry]:
    """Give two models, one of them with two adapters."""
    adapters = tuple(LoraAdapter(servedName=f"chat-{one}", upstreamName=f"chat-{one}") for one in ("x", "y"))
    policies = (CACHE, GUARD)
    return [
        entry("chat", url, adapters=adapters, policies=policies, revision=revision),
        entry("other", url, policies=policies, revision=revision),
    ]


def questions() -> list[tuple[str, dict[str, Any]]]:
    """Give requests that all differ, each with the key of who asks."""
    systems = (None, "be brief", "be brief.", "be long")
    tools: tuple[Any, ...] = (None, [{"type": "function", "function": {"name": "f"}}])
    parameters: tuple[dict[str, Any], ...] = (
        {}, {"temperature": 0}, {"temperature": 0.0}, {"max_tokens": 5}, {"seed": 1}, {"seed": 2}, {"top_p": 1},
        {"stop": "x"}, {"stop": ["x"]}, {"odd": None},
    )  # fmt: skip
    prompts = ("add 3 and 4", "add 4 and 3", "Add 3 and 4", "add 3 and 4 ")
    names = ("chat", "chat-x", "chat-y", "other")
    found = []
    for who, name, system, tool, more, prompt in itertools.product(
        ("ada", "bob", "cyd"), names, systems, tools, parameters, prompts
    ):
        said = [] if system is None else [{"role": "system", "content": system}]
        document = {"model": name, "messages": [*said, {"role": "user", "content": prompt}], **more}
        found.append((who, document if tool is None else {**document, "tools": tool}))
    Random(12).shuffle(found)  # noqa: S311 - no secret
    return found[:REQUESTS]


async def ask_all(url: str, asked: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str]]:
    """Ask all of them, some at once; give what each was told of the cache, and its answer."""
    left, told = iter(enumerate(asked)), [("", "")] * len(asked)

    async def some(client: httpx2.AsyncClient) -> None:
        for number, (who, document) in left:
            headers = {"authorization": f"Bearer {key_text(who)}"}
            response = await client.post(CHAT, content=json.dumps(document), headers=headers)
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["model"] == document["model"]
            told[number] = response.headers["x-cache"], answer["choices"][0]["message"]["content"]

    headers = {"content-type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, timeout=60, headers=headers) as client:
        await asyncio.gather(*(some(client) for _ in range(AT_ONCE)))
    return told


def reordered(document: dict[str, Any]) -> dict[str, Any]:
    """Give the same with its names, and those of its messages, in another order."""
    messages = [dict(reversed(one.items())) for one in document["messages"]]
    return dict(reversed({**document, "messages": messages}.items()))


async def test_thousands_of_requests_that_differ_share_no_answer(tmp_path: Path) -> None:
    """Each of them is asked, each gets its own answer again and no other, and another guard or revision begins anew."""
    count = itertools.count()

    async def numbered(received: Received, wire: Wire) -> None:
        await wire.json(completion(received.document["model"], f"answer {next(count)}"))

    asked = questions()
    assert len({json.dumps(one) for one in asked}) == REQUESTS
    async with (
        FakeUpstream(numbered) as upstream,
        running_gateway(
            tmp_path, *models(upstream.url), keys=KEYS, policies=(POLICY, guard("x")), insecure_no_auth=False
        ) as gateway,
    ):
        told = await ask_all(gateway.url, asked)
        assert {word for word, _ in told} == {"miss"}
        assert len({answer for _, answer in told}) == len(upstream.requests) == REQUESTS
        some = Random(7).sample(range(REQUESTS), 200)  # noqa: S311 - no secret
        again = await ask_all(gateway.url, [(asked[one][0], reordered(asked[one][1])) for one in some])
        assert again == [("hit-memory", told[one][1]) for one in some]
        for number, changed in enumerate(
            ((models(upstream.url), guard("x", "y")), (models(upstream.url, revision="2"), guard("x", "y"))), 1
        ):
            await gateway.configure(*changed[0], keys=KEYS, policies=(POLICY, changed[1]))
            anew = await ask_all(gateway.url, [asked[one] for one in some])
            assert {word for word, _ in anew} == {"miss"}
            assert len(upstream.requests) == REQUESTS + number * len(some)
