import time
from dataclasses import replace

import pytest

from capstan_contract.config import (
    ExternalBackend,
    ExternalEndpoint,
    ModelEntry,
    Price,
    PriceTier,
    Provider,
    ServiceBackend,
    StaticBackend,
    Task,
)
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.entries import build_entry, default_backend, unix_seconds
from capstan_operator.desired.faults import find_doubts
from capstan_operator.desired.naming import credential_file, served_name, upstream_name
from capstan_operator.desired.queueing import InstalledQueue
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import as_deleting, make_model


def _entry(model: Model) -> ModelEntry:
    (entry,) = compile_gateway([model]).config.models
    return entry


def test_smallest_model_is_found_by_its_service() -> None:
    """A model is answered by its Service, under its own name."""
    entry = _entry(make_model(generation=3))
    assert entry.backend == ServiceBackend(namespace="team", service="llama-model", portName="http")
    assert (entry.id, entry.servedName, entry.upstreamName) == ("team/llama", "llama", "llama")
    assert entry.created == 1767225600


@pytest.mark.parametrize("engine", ["vLLM", "SGLang", "TGI", "Simulator"])
def test_only_of_vllm_the_gateway_may_ask_for_counts_in_streams(engine: str) -> None:
    """Other servers need not know the option, and of them the entry is as it was before there was the field."""
    entry = _entry(make_model(engine={"type": engine}))
    assert entry.continuousUsage is (engine == "vLLM")
    assert ("continuousUsage" in entry.model_dump()) is (engine == "vLLM")
    external = {"url": "https://api.example.com/v1", "provider": "OpenAI"}
    assert not _entry(make_model(model={}, external=external)).continuousUsage


@pytest.mark.parametrize("engine", ["vLLM", "Simulator"])
def test_the_gateway_is_told_whose_workers_tell_their_blocks(engine: str) -> None:
    """Of a model that does not ask for it the entry is as it was before there was the field, and older gateways serve
    it: they estimate."""
    entry = _entry(make_model(engine={"type": engine, "kvCache": {"events": True}}))
    assert entry.kvEvents
    assert not entry.requires
    for kv_cache in ({"events": False}, {}):
        assert "kvEvents" not in _entry(make_model(engine={"type": engine, "kvCache": kv_cache})).model_dump()


EVALUATION = {
    "sampleRate": "0.1",
    "criteria": [{"name": "polite", "text": "It is polite.", "rubric": "2"}, {"name": "brief", "text": "It is brief."}],
    "judge": {"name": "judge"},
    "alertBelow": "0.7",
}


def test_the_gateway_is_told_which_answers_are_sampled() -> None:
    """The judge is a model of the same namespace; an entry of a model that is not evaluated, or of which no answer is,
    is as it was before there was the field."""
    evaluation = _entry(make_model(evaluation=EVALUATION)).evaluation
    assert evaluation is not None
    assert (evaluation.sampleRate, evaluation.perHour, evaluation.alertBelow) == (0.1, None, 0.7)
    assert [(one.name, one.rubric) for one in evaluation.criteria] == [("brief", "1"), ("polite", "2")]
    assert evaluation.judge == "team/judge"
    for none in (None, EVALUATION | {"sampleRate": "0.0"}):
        assert "evaluation" not in _entry(make_model(evaluation=none)).model_dump()


def test_a_model_may_name_its_tokenizer() -> None:
    """An entry of one that names none is as it was before there was the field."""
    assert _entry(make_model(serving={"tokenizer": "Qwen/Qwen3-8B"})).tokenizer == "Qwen/Qwen3-8B"
    assert "tokenizer" not in _entry(make_model()).model_dump()


def test_a_generation_that_changes_nothing_for_the_gateway_changes_nothing_in_its_config() -> None:
    """A scale or a label reloads nothing; an object made anew of the same name is another one."""
    configs = {compile_gateway([make_model(generation=number)]).config.hash for number in (1, 2)}
    assert len(configs) == 1
    assert compile_gateway([make_model(uid="another")]).config.hash not in configs


def test_everything_of_serving_arrives() -> None:
    """Prices become numbers, names are sorted, and the engine's names stay apart from the served ones."""
    model = make_model(
        model={"servedName": "chat", "aliases": ["z", "b"], "revision": "v1", "task": "chat"},
        adapters=[
            {"name": "two", "source": "hf://example/two", "servedName": "other"},
            {"name": "one", "source": "hf://example/one"},
        ],
        serving={
            "capabilities": ["Vision", "Tools"],
            "contextWindow": 100,
            "maxOutputTokens": 10,
            "price": {
                "inputPerMillion": "0.15",
                "cachedInputPerMillion": "0.075",
                "cacheWritePerMillion": "0.1875",
                "outputPerMillion": "3",
            },
            "weight": 7,
            "fallbacks": ["second", "first"],
            "timeouts": {"firstTokenSeconds": 1, "idleSeconds": 2, "totalSeconds": 3},
        },
    )
    others = [make_model(name) for name in ("first", "second")]
    entry = next(one for one in compile_gateway([model, *others]).config.models if one.id == "team/llama")
    assert (entry.servedName, entry.upstreamName, entry.aliases, entry.revision) == ("chat", "llama", ("b", "z"), "v1")
    assert [(a.servedName, a.upstreamName) for a in entry.adapters] == [("chat:one", "one"), ("other", "two")]
    assert entry.task is Task.CHAT
    assert entry.capabilities == ("Tools", "Vision")
    assert entry.price is not None
    price = entry.price
    assert (price.inputPerMillion, price.cachedInputPerMillion, price.outputPerMillion) == (0.15, 0.075, 3.0)
    assert price.cacheWritePerMillion == 0.1875
    assert (entry.weight, entry.fallbacks) == (7, ("second", "first"))
    assert (entry.timeouts.firstTokenSeconds, entry.timeouts.idleSeconds, entry.timeouts.totalSeconds) == (1, 2, 3)


def test_tgi_is_called_by_the_one_name_that_it_knows() -> None:
    """TGI takes any name but its own for an adapter's."""
    assert _entry(make_model(engine={"type": "TGI"})).upstreamName == "tgi"


def test_external_model_names_its_credential_and_never_holds_it() -> None:
    """A hosted API is called at its URL, with a credential that is told by file name and copied from a Secret."""
    url = "https://api.example.com/v1"
    file = credential_file(ObjectKey("team", "gpt"), uid="uid-team-gpt", secret="keys", secret_key="main", url=url)
    external = {"url": url, "provider": "OpenAI", "secretRef": {"name": "keys", "key": "main"}}
    compiled = compile_gateway([make_model("gpt", external=external, model={"servedName": "gpt-5"})])
    (entry,) = compiled.config.models
    assert entry.backend == ExternalBackend(
        provider=Provider.OPENAI,
        endpoints=(ExternalEndpoint(name="default", url="https://api.example.com/v1", credentialFile=file),),
    )
    assert entry.upstreamName == "gpt-5"
    assert compiled.credentials == {file: ("team", "keys", "main")}


def test_external_model_without_a_secret_has_no_credential() -> None:
    """A hosted API that asks for no key has none."""
    compiled = compile_gateway([make_model(external={"url": "https://api.example.com/v1", "model": "theirs"})])
    (entry,) = compiled.config.models
    assert (entry.upstreamName, compiled.credentials) == ("theirs", {})
    assert isinstance(entry.backend, ExternalBackend)
    assert entry.backend.endpoints[0].credentialFile is None


def test_local_mode_says_where_models_are() -> None:
    """Whoever knows better than the cluster says where a model is answered."""
    backend = StaticBackend(urls=("http://127.0.0.1:1",))
    (entry,) = compile_gateway([make_model()], backend_of=lambda _: backend).config.models
    assert entry.backend == backend


def test_oldest_claim_wins_and_the_loser_is_told() -> None:
    """A name belongs to the oldest model; one that wants it as its served name is left out and told whose it is."""
    old = make_model("b", model={"servedName": "chat"})
    young = make_model("a", created="2026-02-01T00:00:00Z", model={"servedName": "chat"})
    compiled = compile_gateway([young, old])
    assert [entry.id for entry in compiled.config.models] == ["team/b"]
    verdict = compiled.verdicts[young.key]
    assert (verdict.accepted, verdict.reason) == (False, "Conflicted")
    assert verdict.message == "the name 'chat' belongs to the LLMModel 'team/b'"


def test_name_is_free_as_soon_as_its_owner_is_being_deleted() -> None:
    """A model that goes claims nothing."""
    old = as_deleting(make_model("b", model={"servedName": "chat"}))
    young = make_model("a", created="2026-02-01T00:00:00Z", model={"servedName": "chat"})
    compiled = compile_gateway([old, young])
    assert [entry.id for entry in compiled.config.models] == ["team/a"]
    assert compiled.verdicts[old.key].reason == "Deleting"


def test_faulty_model_is_left_out_with_all_its_faults() -> None:
    """A faulty model names every fault and stops nobody else."""
    faulty = make_model("faulty", replicas=-1, serving={"weight": -1})
    compiled = compile_gateway([faulty, make_model()])
    assert [entry.id for entry in compiled.config.models] == ["team/llama"]
    verdict = compiled.verdicts[ObjectKey("team", "faulty")]
    assert verdict.reason == "Invalid"
    assert "spec.replicas" in verdict.message
    assert "spec.serving.weight" in verdict.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"adapters": [{"name": "x", "source": "hf://a/b", "servedName": "llama"}]}, "spec.adapters[0].servedName"),
        ({"adapters": [{"name": "x", "source": "s3://bucket/x"}]}, "spec.adapters[0].source"),
        ({"engine": {"type": "TGI"}, "model": {"source": "s3://bucket/x"}}, "spec.model.source"),
        ({"template": {"spec": {"$nothing": 1}}}, "spec.template.spec.$nothing"),
    ],
)
def test_faults_beyond_the_schema_are_told(spec: dict[str, object], field: str) -> None:
    """What the schema cannot see is still a fault of a field."""
    model = make_model(**spec)  # type: ignore[arg-type]
    assert f"`{field}`" in compile_gateway([model]).verdicts[model.key].message


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-01"])
def test_odd_creation_times_do_no_harm(created: str) -> None:
    """A manifest from a file may have any creation time, or none."""
    assert _entry(replace(make_model(), created=created)).created in (0, 1767225600)


def test_a_backend_that_the_contract_refuses_costs_its_model_only() -> None:
    """A model whose address no gateway could use is Invalid; every other model is served."""

    def backend(model: Model) -> StaticBackend:
        return StaticBackend(urls=("http://h:99999" if model.key.name == "bad" else "http://h:9999",))

    bad, good = make_model("bad"), make_model("good")
    compiled = compile_gateway([bad, good], backend_of=backend)
    assert [entry.id for entry in compiled.config.models] == ["team/good"]
    assert compiled.verdicts[bad.key].reason == "Invalid"
    assert "urls.0" in compiled.verdicts[bad.key].message
    assert compiled.verdicts[good.key].accepted


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1767225600),
        ("2026-01-01T01:00:00+01:00", 1767225600),
        ("2026-01-01T00:00:00", 1767225600),
        ("2026-01-01", 1767225600),
        ("", 0),
        ("yesterday", 0),
    ],
)
def test_a_time_of_creation_is_told_in_utc(created: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever zone it says, also none, and whatever that of the machine is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert unix_seconds(created) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_faulty_model_is_called_by_its_own_name() -> None:
    """Nobody knows another one."""
    assert served_name(make_model(replicas=-1)) == upstream_name(make_model(replicas=-1)) == "llama"


def test_how_requests_are_written_arrives_and_says_nothing_where_nothing_is_set() -> None:
    """What a model needs of requests is in its entry; without the setting the entry is as it always was."""
    said = {
        "systemMessages": "AsUser", "reasoningHistory": "Pass", "maxTokens": "Refuse", "hostedTools": "Drop",
        "toolIds": "Kimi",
    }  # fmt: skip
    assert _entry(make_model(compatibility=said)).model_dump(mode="json")["compatibility"] == said
    assert b"compatibility" not in _entry(make_model()).text
    assert _entry(make_model(compatibility={})).text == _entry(make_model()).text
    assert b'"compatibility":{"maxTokens":"Clamp"}' in _entry(make_model(compatibility={"maxTokens": "Clamp"})).text


def test_every_kind_of_token_and_every_tier_has_its_price() -> None:
    """What a manifest says of kinds and tiers is in the config as numbers, the tiers sorted by their bounds."""
    price = {
        "inputPerMillion": "1", "cacheWriteHourPerMillion": "2", "audioInputPerMillion": "3", "outputPerMillion": "4",
        "reasoningPerMillion": "5", "audioOutputPerMillion": "6",
        "tiers": [
            {"aboveInputTokens": 200, "inputPerMillion": "8"},
            {"aboveInputTokens": 100, "outputPerMillion": "9"},
        ],
    }  # fmt: skip
    entry = _entry(make_model(serving={"price": price}))
    assert entry.price == Price(
        inputPerMillion=1, cacheWriteHourPerMillion=2, audioInputPerMillion=3, outputPerMillion=4,
        reasoningPerMillion=5, audioOutputPerMillion=6,
        tiers=(PriceTier(aboveInputTokens=100, outputPerMillion=9), PriceTier(aboveInputTokens=200, inputPerMillion=8)),
    )  # fmt: skip


@pytest.mark.parametrize("type_", ["vLLM", "Simulator"])
def test_a_gateway_must_know_that_tenants_are_kept_apart(type_: str) -> None:
    """The entry says it, and requires it: an older gateway would mix the tenants. Without it nothing is required."""
    apart = _entry(make_model(engine={"type": type_, "kvCache": {"isolation": "Tenant"}}))
    assert (apart.tenantSalt, apart.requires) == (True, ("tenantSalt",))
    for shared in (None, {}, {"isolation": "None"}):
        entry = _entry(make_model(engine={"type": type_, "kvCache": shared}))
        assert {"tenantSalt", "requires"}.isdisjoint(entry.model_dump())


@pytest.mark.parametrize("type_", ["vLLM", "Simulator"])
def test_a_gateway_must_know_transcriptions_to_serve_a_model_that_makes_them(type_: str) -> None:
    """An older gateway refuses such an entry, has no queue for it, and asks nobody for usage that no form can ask."""
    model = make_model(model={"task": "transcribe"}, engine={"type": type_})
    assert model.spec is not None
    entry = build_entry(model, model.spec, default_backend(model), queue=InstalledQueue("seal"))
    assert (entry.requires, entry.queue, entry.continuousUsage) == (("transcriptions",), None, False)


def test_requests_may_name_the_prompts_that_fit() -> None:
    """In the order of the manifest; one that is too large is kept warm and cannot be named, and validation says so."""
    texts = {"a": "x" * 20_000, "b": "ä" * 10_000, "c": "z"}
    model = make_model(prefixes=[{"name": name, "system": text} for name, text in texts.items()])
    entry = _entry(model)
    assert [(prefix.name, prefix.system) for prefix in entry.prefixes] == [("a", texts["a"]), ("c", "z")]
    assert [doubt.field for doubt in find_doubts(model)] == ["spec.prefixes[1].system"]
    assert len(entry.text) < 34_000
    assert "prefixes" not in _entry(make_model()).model_dump()


@pytest.mark.parametrize(("caching", "fields"), [(None, []), (True, []), (False, ["spec.prefixes"])])
def test_prompts_that_no_engine_keeps_are_doubted(caching: bool | None, fields: list[str]) -> None:
    """They can be named all the same, so that it is no fault."""
    cache = {} if caching is None else {"prefixCaching": caching}
    model = make_model(engine={"kvCache": cache}, prefixes=[{"name": "a", "system": "You help."}])
    assert [doubt.field for doubt in find_doubts(model)] == fields


def test_what_hears_may_have_a_price_for_minutes() -> None:
    """Beside that of tokens, which are free where nothing is said."""
    model = {"source": "hf://openai/whisper-small", "task": "transcribe"}
    entry = _entry(make_model(model=model, serving={"price": {"audioInputPerMinute": "0.006"}}))
    assert entry.price == Price(audioInputPerMinute=0.006)
