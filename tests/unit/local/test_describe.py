"""What a person reads."""

import re
import shlex
from pathlib import Path

import pytest

from capstan_contract.config import (
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    Provider,
    StaticBackend,
    Task,
)
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.api.parse import parse_model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.local.describe import Access, Row, changes, curl_lines, table
from capstan_operator.local.launch import Launch
from capstan_operator.local.plan import Process, Slot, State
from capstan_operator.local.tell import Scene, Teller, is_settled, presentation, problems_of
from capstan_operator.resources.resource import ObjectKey

CHAT = ModelEntry(
    id="default/chat", generation=0, servedName="chat", upstreamName="chat", backend=StaticBackend(urls=("http://x",))
)
KEY = ObjectKey("default", "chat")
LAUNCH = Launch(EngineType.SIMULATOR, python="python", model="chat", task=Task.CHAT)


def _config(*entries: ModelEntry) -> GatewayConfig:
    return GatewayConfig.build(entries)


def _external(url: str) -> ExternalBackend:
    return ExternalBackend(provider=Provider.OPENAI, endpoints=(ExternalEndpoint(name="default", url=url),))


def _scene(**parts: object) -> Scene:
    nothing: dict[str, object] = {
        "models": (),
        "config": _config(),
        "refused": {},
        "reduced": {},
        "policies": {},
        "absent": {},
        "missing_keys": {},
        "launches": {},
        "processes": (),
        "resting": (),
    }
    return Scene(**(nothing | parts))  # type: ignore[arg-type]


def test_the_table_lines_up() -> None:
    """Every column begins where its heading begins."""
    drawn = table([Row("a", ("a", "b"), "vLLM", "ready"), Row("a-long-name", (), "-", "not ready")]).splitlines()
    heading = drawn[0]
    for line, cells in zip(
        drawn[1:], (("a", "a, b", "vLLM", "ready"), ("a-long-name", "", "-", "not ready")), strict=True
    ):
        for column, cell in zip(("MODEL", "CLIENTS", "RUNS", "STATE"), cells, strict=True):
            assert line[heading.index(column) :].startswith(cell)


def test_one_curl_line_for_each_task() -> None:
    """Two chat models give one line, and a task without a route gives none."""
    entries = [
        CHAT,
        CHAT.model_copy(update={"id": "default/other"}),
        CHAT.model_copy(update={"id": "default/e", "servedName": "e", "task": Task.EMBED}),
        CHAT.model_copy(update={"id": "default/c", "servedName": "c", "task": Task.CLASSIFY}),
    ]
    lines = curl_lines("http://127.0.0.1:1", entries, Access(key="sk-k"))
    assert [shlex.split(line)[2] for line in lines] == [
        "http://127.0.0.1:1/v1/chat/completions",
        "http://127.0.0.1:1/v1/embeddings",
    ]
    assert all(shlex.split(line)[4] == "Authorization: Bearer sk-k" for line in lines)


def test_sound_is_sent_as_a_form() -> None:
    """A model that hears has a line of its own, with a file in place of JSON."""
    ears = CHAT.model_copy(update={"servedName": "ears", "task": Task.TRANSCRIBE})
    (line,) = curl_lines("http://127.0.0.1:1", [ears, ears], Access(everybody=True))
    assert shlex.split(line) == [
        "curl", "http://127.0.0.1:1/v1/audio/transcriptions", "-F", "model=ears", "-F", "file=@speech.wav",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("access", "said", "header"),
    [
        (Access(key="sk-k", is_new=True, path="p"), "made just now, and is kept in p:\n\n  sk-k", "Bearer sk-k"),
        (Access(key="sk-k", path="p"), "Yours is in p.", "Bearer sk-k"),
        (Access(state="s"), "capstan keys create --state-dir s", "Bearer $CAPSTAN_API_KEY"),
        (Access(everybody=True), "without an API key (--insecure-no-auth)", ""),
    ],
)
def test_people_are_told_how_to_get_in(access: Access, said: str, header: str) -> None:
    """A key is shown when it is new, where it is kept later, and how one is made where there is none."""
    assert said in access.text
    assert ("sk-k" in access.text) is access.is_new
    (line,) = curl_lines("http://x", [CHAT], access)
    assert header in line
    assert ("Authorization" in line) is bool(header)


def test_names_cannot_break_out_of_the_curl_line() -> None:
    """Whatever a model is called, the line is one shell word where it should be one."""
    [line] = curl_lines("http://x", [CHAT.model_copy(update={"servedName": "it's"})], Access(key="sk-k"))
    assert '"it\'s"' in shlex.split(line)[-1]


def test_changes_tell_what_clients_notice() -> None:
    """Renames, additions, removals and other fields are told by model; where an engine runs is not."""
    moved = CHAT.model_copy(update={"backend": StaticBackend(urls=())})
    assert changes(_config(CHAT), _config(moved)) == ()
    renamed = CHAT.model_copy(update={"servedName": "talk", "aliases": ("t",)})
    assert changes(_config(CHAT), _config(renamed)) == (
        ("chat", "is now served as 'talk', no longer as 'chat'"),
        ("chat", "changed in the gateway: aliases"),
    )
    assert changes(_config(), _config(CHAT)) == (("chat", "is served as 'chat'"),)
    assert changes(_config(CHAT), _config()) == (("chat", "is no longer served"),)


def test_a_moved_external_model_is_a_change() -> None:
    """Another URL of a hosted API is noticed by clients."""
    old = CHAT.model_copy(update={"backend": _external("https://a/v1")})
    new = CHAT.model_copy(update={"backend": _external("https://b/v1")})
    assert changes(_config(old), _config(new)) == (("chat", "changed in the gateway: backend"),)


def test_problems_name_the_way_out() -> None:
    """Each problem is told with its model's name, and a missing key with its variable."""
    scene = _scene(
        refused={KEY: "taken"}, absent={ObjectKey("default", "b"): "no"}, missing_keys={"default.c": "OPENAI_API_KEY"}
    )
    told = dict(problems_of(scene))
    assert told["chat"] == "is not served: taken"
    assert told["b"] == "has no engine: no"
    assert "set OPENAI_API_KEY" in told["c"]


def test_what_members_and_endpoints_lack_is_told() -> None:
    """A virtual model that does without something says so, and a missing key is told with its endpoint."""
    told = dict(problems_of(_scene(reduced={KEY: "no x"}, missing_keys={"default.gpt.eu": "KEYS_EU"})))
    assert told["chat"] == "is served with less than it names: no x"
    assert told["gpt"] == "has no API key for its endpoint 'eu': set KEYS_EU and start again"


def _model(name: str, **spec: object) -> Model:
    return parse_model({"metadata": {"name": name}, "spec": spec})


def test_virtual_models_are_in_the_table() -> None:
    """A router or cascade is ready as soon as one of its members is, and its row names them."""
    endpoints = [{"name": name, "url": f"https://{name}.example.com/v1"} for name in ("eu", "us")]
    endpoints[0] |= {"secretRef": {"name": "keys", "key": "eu"}}  # type: ignore[dict-item]
    models = (
        _model("a-router", model={"aliases": ["any"]}, router={"members": [{"name": "z"}, {"name": "c"}]}),
        _model("b-router", router={"members": [{"name": "c"}]}),
        _model("c", cascade={"members": [{"name": "x"}, {"name": "y"}]}),
        _model("x", model={"source": "hf://a/b"}, engine={"type": "Simulator"}),
        _model("y", model={"source": "hf://a/b"}, engine={"type": "Simulator"}),
        _model("z", external={"endpoints": endpoints}),
    )
    config = compile_gateway(models).config
    scene = _scene(models=models, config=config, missing_keys={"default.z.eu": "KEYS_EU"})
    lines = presentation(scene, "http://here", Path("manifests"), Path("state"), Access(everybody=True)).splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines if line.startswith("  ") and "curl" not in line]
    assert rows[1:] == [
        ["a-router", "a-router, any", "router: c, z", "ready"],
        ["b-router", "b-router", "router: c", "no member is ready"],
        ["c", "c", "cascade: x, y", "no member is ready"],
        ["x", "x", "-", "no replicas"],
        ["y", "y", "-", "no replicas"],
        ["z", "z", "https://eu.example.com/v1, https://us.example.com/v1", "ready"],
    ]


def test_settled_means_ready_or_failed() -> None:
    """While a wanted process is coming up nothing is presented; one that rests after a crash does not hold it up."""
    slot = Slot(KEY)
    starting = Process(1, slot, LAUNCH, State.STARTING, "http://x")
    ready = Process(1, slot, LAUNCH, State.READY, "http://x")
    assert is_settled(_scene())
    assert not is_settled(_scene(launches={slot: LAUNCH}))
    assert not is_settled(_scene(launches={slot: LAUNCH}, processes=(starting,)))
    assert is_settled(_scene(launches={slot: LAUNCH}, processes=(ready,)))
    assert is_settled(_scene(launches={slot: LAUNCH}, resting={(slot, LAUNCH)}))


def test_evaluation_without_a_redis_is_told_once() -> None:
    """Answers are sampled nowhere then; with a Redis, or where nothing is evaluated, there is nothing to say."""
    evaluation = {
        "sampleRate": "0.1", "criteria": [{"name": "polite", "text": "It is."}], "judge": {"name": "judge"},
    }  # fmt: skip
    config = compile_gateway([_model("m", model={"source": "hf://a/b"}, evaluation=evaluation)]).config
    told: list[str] = []
    teller = Teller(
        "http://here", Path("manifests"), Path("state"), access=Access(everybody=True),
        say=lambda _, text: told.append(text), show=lambda _: None,
    )  # fmt: skip
    for _ in range(2):
        teller.look(_scene(config=config, has_redis=False))
    teller.look(_scene(config=config, has_redis=True))
    teller.look(_scene(has_redis=False))
    assert told == ["has no effect: no answer is sampled without a Redis; name one by --redis-url"]


def test_steps_are_told_to_have_no_effect_once_a_model() -> None:
    """There is no canary without a cluster; what else is wrong with the same model is told beside it."""
    rollout = {"steps": [{"weight": 5}]}
    models = (
        _model("a", model={"source": "hf://a/b"}, rollout=rollout),
        _model("b", model={"source": "hf://a/b"}, rollout=rollout),
        _model("c", model={"source": "hf://a/b"}, rollout={"strategy": "Surge"}),
    )
    told: list[tuple[str, str]] = []
    teller = Teller(
        "http://here", Path("manifests"), Path("state"), access=Access(everybody=True),
        say=lambda name, text: told.append((name, text)), show=lambda _: None,
    )  # fmt: skip
    for _ in range(2):
        teller.look(_scene(models=models, refused={ObjectKey("default", "a"): "taken"}))
    steps = "`spec.rollout.steps` have no effect: there is no canary without a cluster, and a change is live at once"
    assert told == [("a", steps), ("a", "is not served: taken"), ("b", steps)]
