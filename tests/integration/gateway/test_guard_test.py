"""`capstan guard test --gateway`: a policy is tried where it runs, with the models that its guards ask."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.config import Task
from capstan_contract.guards import check_guard_body
from capstan_contract.limits import Mode
from capstan_operator.cli import guard as command
from capstan_operator.cli.guard_gateway import MOST_TRIES, Gateway, NoAnswer
from capstan_operator.cli.main import main
from capstan_operator.desired.policy_kinds import build_policy_entry
from capstan_operator.manifests.collect import load_manifests
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, running_gateway

POLICY = """\
apiVersion: capstan.dev/v1alpha1
kind: GuardPolicy
metadata: {name: mine, namespace: t}
spec:
  mode: Shadow
  targetRefs: [{name: chat}]
  input:
    - {type: Keywords, keywords: [bluebird]}
    - {name: harm, type: Moderation, modelRef: {name: judge}, action: Warn}
  output:
    - {type: Keywords, keywords: [falcon]}
"""
LINES: list[dict[str, Any]] = [
    {"text": "tell me of project bluebird", "label": "attack"},
    {"text": "how to hurt somebody", "label": "attack"},
    {"text": "unspeakable", "label": "attack"},
    {"text": "hello", "label": "benign"},
]


async def classifier(received: Received, wire: Wire) -> None:
    """Find harm in what hurts, and give no answer about what cannot be said."""
    rows = []
    for text in received.document["input"]:
        if "unspeakable" in text:
            await wire.json({"error": {"message": "out of memory"}}, 500)
            return
        harmful = "hurt" in text
        rows.append({"label": "toxic" if harmful else "neutral", "probs": [0.1, 0.9] if harmful else [0.9, 0.1]})
    await wire.json({"data": rows})


@pytest.fixture
async def judge() -> AsyncIterator[FakeUpstream]:
    """The engine of the model that is asked."""
    async with FakeUpstream(classifier) as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, judge: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that runs the policy, compiled as the operator does it."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
    (policy,) = load_manifests([tmp_path / "policy.yaml"]).of_kind(command.GUARDPOLICY).values()
    compiled = build_policy_entry(policy)
    assert check_guard_body(compiled.body).mode is Mode.SHADOW
    models = (
        entry("chat", judge.url, id="t/chat", policies=(compiled.id,)),
        entry("judge", judge.url, id="t/judge", task=Task.CLASSIFY),
        entry("open", judge.url, id="t/open"),
    )
    async with running_gateway(tmp_path, *models, policies=[compiled]) as running:
        yield running


async def tried(folder: Path, gateway: str, *more: str, model: str = "chat") -> int:
    """Run the command as a person does; give its exit code."""
    where = ("--gateway", gateway, "--model", model)
    words = ("guard", "test", str(folder / "policy.yaml"), str(folder / "prompts.jsonl"), *where, *more)
    return await asyncio.to_thread(main, list(words))


async def test_guards_that_ask_are_tried(
    gateway: RunningGateway, judge: FakeUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each guard has its numbers, of the prompts that it has decided about; of the others the reason is told."""
    assert await tried(tmp_path, f"{gateway.url}/v1/", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prompts"], told["recall"]["hits"], told["recall"]["of"]) == (4, 2, 2)
    assert (told["passRate"]["hits"], told["passRate"]["of"]) == (1, 1)
    keywords, harm = told["guards"]
    assert [one["tried"] for one in told["guards"]] == [True, True]
    # What the keywords have blocked, nobody else was asked about; what has failed ends it as well.
    assert (keywords["recall"]["hits"], keywords["recall"]["of"]) == (1, 2)
    assert (harm["recall"]["hits"], harm["recall"]["of"]) == (1, 1)
    assert [(one["guard"], one["prompts"]) for one in told["undecided"]] == [("harm", 1)]
    assert told["milliseconds"]["p99"] >= told["milliseconds"]["p50"] > 0
    assert judge.requests
    assert await tried(tmp_path, gateway.url) == 0
    assert "harm                    could not decide 1: " in capsys.readouterr().out


async def test_the_other_list_and_other_texts(
    gateway: RunningGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers pass the guards of the output, and each source comes to the guards as what it is."""
    (tmp_path / "prompts.jsonl").write_text('{"text": "falcon", "label": "attack"}\n')
    assert await tried(tmp_path, gateway.url, "--stage", "output") == 0
    assert "recall 100.0%" in capsys.readouterr().out
    for source in ("System", "Assistant", "ToolResults", "Documents"):
        (tmp_path / "prompts.jsonl").write_text('{"text": "a bluebird", "label": "attack"}\n')
        assert await tried(tmp_path, gateway.url, "--source", source) == 0
        assert "recall 100.0%" in capsys.readouterr().out, source


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "open"}, "the policy t/mine is not in force on the model 'open' there"),
        ({"model": "nobody"}, "the gateway answers 404: "),
        ({"model": ""}, "--gateway needs --model"),
        ({"more": ("--stage", "output", "--source", "Reasoning")}, "about texts of Text in the output"),
        ({"where": "ftp://somewhere"}, "--gateway must be http:// or https://"),
        ({"where": "http://127.0.0.1:9"}, "no answer from 127.0.0.1: "),
        ({"policy": POLICY.replace("name: harm", "name: other")}, "another version of the policy: it has a guard 'h"),
    ],
)  # fmt: skip
async def test_what_cannot_be_tried_there_is_told(
    gateway: RunningGateway,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: Mapping[str, Any],
    said: str,
) -> None:
    """Without a traceback, and with exit code 1."""
    (tmp_path / "policy.yaml").write_text(more.get("policy", POLICY))
    where = more.get("where", gateway.url)
    assert await tried(tmp_path, where, *more.get("more", ()), model=more.get("model", "chat")) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err


async def test_who_is_sent_away_comes_again(judge: FakeUpstream, tmp_path: Path) -> None:
    """Limits are waited for as long as they say, with the same key, and not for ever."""
    told = {"policies": ["t/g"], "guards": [], "failed": []}
    left, rests = 2, []

    async def limited(_: Received, wire: Wire) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            await wire.json({"error": {"message": "too many"}}, 429)
        else:
            await wire.json(told)

    judge.respond = limited
    there = Gateway(judge.url, "m", "t/g", stage="input", source=command.Source.USER, key="k-1", rest=rests.append)
    answer = await asyncio.to_thread(there.look, "x")
    assert (answer["findings"], answer["failed"], answer["over"]) == ([], {}, False)
    assert len(rests) == 2
    assert {request.headers["authorization"] for request in judge.requests} == {"Bearer k-1"}
    assert "k-1" not in repr(there)
    left = 2 * MOST_TRIES
    with pytest.raises(NoAnswer, match="429: too many"):
        await asyncio.to_thread(there.look, "x")
    assert len(rests) == 2 + MOST_TRIES - 1


def test_the_key_is_in_a_file_or_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file comes first; what cannot be a key is refused without being shown."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "prompts.jsonl").write_text("")
    (tmp_path / "key").write_text("two\nwords")
    words = ["guard", "test", *(str(tmp_path / name) for name in ("policy.yaml", "prompts.jsonl"))]
    where = ["--gateway", "http://127.0.0.1:9", "--model", "m"]
    assert main([*words, *where, "--key-file", str(tmp_path / "key")]) == 1
    assert "no API key in " in (told := capsys.readouterr().err)
    assert "words" not in told
    monkeypatch.setenv(command.KEY, "k\u00e9")
    assert main([*words, *where]) == 1
    assert "no API key in CAPSTAN_API_KEY" in capsys.readouterr().err
