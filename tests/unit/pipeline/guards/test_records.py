"""What is written down and counted of guards: the audit record, the counts of policies, which of them are in force."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import GatewayConfig
from capstan_contract.entries import PolicyEntry, PolicyTargets
from capstan_contract.guards import Action, GuardBody, KeywordsGuard, PiiEntity, PiiGuard, Source, guard_entry
from capstan_contract.limits import Mode
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.guards.port import Finding
from capstan_gateway.identity.principal import Principal
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.audit import MOST_FINDINGS, Audit
from capstan_gateway.pipeline.guards.compiled import CompiledPolicy, Compiler, compile_policy
from capstan_gateway.pipeline.guards.counting import PolicyCounts
from capstan_gateway.pipeline.guards.kind import Guards
from capstan_gateway.pipeline.guards.lanes import Lanes
from capstan_gateway.pipeline.guards.needs import Judging, Shared
from capstan_gateway.pipeline.guards.shadow import MOST_AT_ONCE, Shadows
from capstan_gateway.pipeline.guards.stage import Decision, Failed, Found
from capstan_gateway.telemetry.metrics import Metrics
from support.asks import an_ask
from support.gateway import entry
from support.guards import Asked, Words, guard, piece
from support.wait import eventually

PSEUDONYMS = Pseudonyms(b"k" * 32)
SECRET = "falcon"
WORDS = Words([SECRET])


def an_audit(*, enabled: bool = True) -> tuple[Audit, list[dict[str, Any]]]:
    """Give one, and what it writes."""
    written: list[dict[str, Any]] = []
    return Audit(written.append, PSEUDONYMS, enabled=enabled), written


def asked() -> Any:
    """Give an ask of a tenant."""
    return an_ask(cast(Any, SimpleNamespace(name="chat")), principal=Principal(tenant="tenant-of-secrets", key="k"))


def test_a_record_says_what_and_where_and_holds_no_text() -> None:
    """Kinds, places and a hash under the installation's key; no word of the text, and not the tenant's name."""
    audit, written = an_audit()
    pieces = [piece("nothing here"), piece(f"the {SECRET} flies", Source.TOOL_RESULTS)]
    found = [(1, Finding("keyword", 4, 10, 0.123456))]
    audit.decided(asked(), "t/g", guard("words", WORDS), "blocked", mode="Enforce", findings=found, pieces=pieces)
    (record,) = written
    assert SECRET not in json.dumps(record)
    assert "tenant-of-secrets" not in json.dumps(record)
    assert record["tenant"] == PSEUDONYMS.of("tenant-of-secrets", at="tenant")
    assert record["text"] == PSEUDONYMS.of(pieces[1].text, at="audit")
    assert record["findings"] == [
        {"kind": "keyword", "start": 4, "end": 10, "score": 0.123, "source": "ToolResults", "at": "content"}
    ]
    wanted = {"model": "chat", "policy": "t/g", "guard": "words", "type": "Keywords", "stage": "input",
              "mode": "Enforce", "decision": "blocked", "found": 1}  # fmt: skip
    assert {name: record[name] for name in wanted} == wanted
    assert "reason" not in record


def test_a_record_of_a_failure_says_why() -> None:
    """With no findings and no hash: there was no text that anybody has judged."""
    audit, written = an_audit()
    audit.decided(asked(), "t/g", guard("words", WORDS), "failed", mode="Shadow", reason="timeout")
    assert (written[0]["decision"], written[0]["mode"], written[0]["reason"]) == ("failed", "Shadow", "timeout")
    assert not {"findings", "found", "text"} & set(written[0])


def test_a_record_is_bounded() -> None:
    """It lists some of many findings, and counts all."""
    audit, written = an_audit()
    found = [(0, Finding("keyword", 0, 6))] * (MOST_FINDINGS + 5)
    audit.decided(
        asked(), "t/g", guard("words", WORDS), "warned", mode="Enforce", findings=found, pieces=[piece(SECRET)]
    )
    assert (len(written[0]["findings"]), written[0]["found"]) == (MOST_FINDINGS, MOST_FINDINGS + 5)


def test_records_may_be_off() -> None:
    """Then nothing is written."""
    audit, written = an_audit(enabled=False)
    audit.decided(asked(), "t/g", guard("words", WORDS), "failed", mode="Enforce", reason="busy")
    assert written == []


def judging(metrics: Metrics, mode: Mode = Mode.ENFORCE) -> tuple[Judging, list[dict[str, Any]]]:
    """Give a policy that judges an ask."""
    audit, written = an_audit()
    policy = SimpleNamespace(body=SimpleNamespace(mode=mode), enforces=mode is Mode.ENFORCE, input=(), output=())
    shared = SimpleNamespace(audit=audit, lanes=SimpleNamespace(of=lambda tenant: tenant))
    counts = PolicyCounts(metrics, "GuardPolicy/t/g")
    made = Judging(policy=cast(Any, policy), shared=cast(Any, shared), counts=counts, ask=asked())
    return made, written


@pytest.mark.parametrize("mode", list(Mode))
def test_every_decision_is_counted_and_written_down(mode: Mode) -> None:
    """Found and failed, with how long it took; the client is told of what it gets all the same, where that is in force."""
    metrics = Metrics()
    made, written = judging(metrics, mode)
    blocks, warns = guard("blocks", WORDS), guard("warns", WORDS, action=Action.WARN)
    finding = (0, Finding("keyword", 0, 6))
    decision = Decision(
        found=[Found(blocks, (finding,)), Found(warns, (finding,))], failed=[Failed(guard("down"), "busy")],
        seconds=[(blocks, 0.25)],
    )  # fmt: skip
    made.record(decision, [piece(SECRET)])
    words = [("blocks", "blocked"), ("warns", "warned"), ("down", "failed")]
    assert [(record["guard"], record["decision"]) for record in written] == words
    for name, word in words:
        assert metrics.guard_decisions.at("t/g", name, "input", mode.value.lower(), word).value == 1
    assert metrics.guard_blocks.at("Keywords", "input").value == (1 if mode is Mode.ENFORCE else 0)
    assert b'gateway_guard_seconds_sum{guard_type="Keywords",stage="input"} 0.25' in metrics.render()
    assert made.ask.guarded == ([("warns", "warned")] if mode is Mode.ENFORCE else None)
    made.blocked_instead(warns)
    assert metrics.guard_decisions.at("t/g", "warns", "input", mode.value.lower(), "blocked").value == 1
    assert (written[-1]["decision"], written[-1]["reason"]) == ("blocked", "not writable")


def test_detectors_work_in_the_lane_of_who_asks() -> None:
    """So that no tenant has all threads."""
    assert cast(Any, judging(Metrics())[0].lane) == "tenant-of-secrets"


# --- which are in force -----------------------------------------------------------------------------------------------


def a_policy(
    name: str, *, mode: Mode = Mode.ENFORCE, targets: PolicyTargets | None = None, guard: str = "w"
) -> PolicyEntry:
    """Give one with a guard of words."""
    words = KeywordsGuard(name=guard, keywords=("falcon",), appliesTo=(Source.USER,))
    return guard_entry("t", name, GuardBody(input=(words,), mode=mode), targets=targets)


def a_kind(metrics: Metrics) -> Guards:
    """Give the kind without a gateway."""
    deps = cast(Deps, SimpleNamespace(metrics=metrics))
    return Guards(Compiler(lambda: deps), cast(Shared, SimpleNamespace(deps=deps, now=lambda: 7.0)))


def a_config(*policies: PolicyEntry) -> GatewayConfig:
    """Give a config in which all of them are on one model."""
    model = entry("chat", "http://127.0.0.1:1", policies=tuple(sorted(one.id for one in policies)))
    return GatewayConfig.build([model], policies=policies)


def test_the_floor_is_outside_and_who_looks_on_is_outside_of_who_acts() -> None:
    """A policy that is for every model is the floor, one that names models, or is named by them alone, is none."""
    everywhere = PolicyTargets(everywhere=True)
    config = a_config(
        a_policy("own"), a_policy("own-shadow", mode=Mode.SHADOW, targets=PolicyTargets(names=("chat",))),
        a_policy("floor", targets=everywhere), a_policy("floor-shadow", mode=Mode.SHADOW, targets=everywhere),
    )  # fmt: skip
    kind = a_kind(Metrics())
    found = [(id.rpartition("/")[2], kind.build(id, one)) for id, one in kind.in_force(config, config.models[0])]
    assert [(name, layer.everywhere) for name, layer in found] == [
        ("floor-shadow", True), ("floor", True), ("own-shadow", False), ("own", False),
    ]  # fmt: skip


def test_counts_are_kept_as_long_as_the_policy_and_the_guard() -> None:
    """However a policy is changed; of policies and guards that are gone nothing is kept, neither counts nor metrics."""
    metrics = Metrics()
    kind = a_kind(metrics)

    def layers(config: GatewayConfig) -> dict[str, Any]:
        made = {id: kind.build(id, one) for id, one in kind.in_force(config, config.models[0])}
        kind.retain(config)
        return made

    first = layers(a_config(a_policy("a"), a_policy("b")))
    for layer in first.values():
        layer.counts.count(layer.policy.input[0], "blocked", mode="Enforce")
    assert [one.blocked for counts in kind.report().policies.values() for one in counts] == [1, 1]
    second = layers(a_config(a_policy("a", targets=PolicyTargets(everywhere=True))))
    assert second["GuardPolicy/t/a"].counts is first["GuardPolicy/t/a"].counts
    assert {id: [one.blocked for one in counts] for id, counts in kind.report().policies.items()} == {
        "GuardPolicy/t/a": [1]
    }
    assert b'policy="t/a"' in metrics.render()
    assert b'policy="t/b"' not in metrics.render()
    layers(a_config(a_policy("a", guard="other")))
    layers(a_config(a_policy("a")))
    assert [one.blocked for one in kind.report().policies["GuardPolicy/t/a"]] == [0]


def test_a_policy_is_compiled_once_while_configs_hold_it() -> None:
    """The same body is the same policy; what no config holds is let go."""
    compiler = Compiler(lambda: cast(Deps, SimpleNamespace()))
    body = a_policy("a").body
    known = compiler.check(body)
    assert compiler.check(dict(body)) is known
    compiler.retain(frozenset({known}))
    assert compiler.check(body) is known
    compiler.retain(frozenset[CompiledPolicy]())
    assert compiler.check(body) is not known


def test_a_kind_of_personal_data_has_an_action_of_its_own() -> None:
    """What the policy says of an entity goes before what it says of the guard."""
    entities = (PiiEntity(type="Email", action=Action.BLOCK), PiiEntity(type="Phone"))
    body = GuardBody(input=(PiiGuard(name="pii", appliesTo=(Source.USER,), entities=entities),))
    (made,) = compile_policy(body, cast(Deps, SimpleNamespace())).input
    assert [made.action_of(Finding(kind, 0, 1)) for kind in ("Email", "Phone")] == [Action.BLOCK, Action.REDACT]
    assert made.action_of(Finding("Email", 0, 1, action=Action.WARN)) is Action.WARN


# --- who looks on -----------------------------------------------------------------------------------------------------


async def test_looks_give_back_their_place_and_their_memory() -> None:
    """No more at once than may be, and when they are done as many again; also one that fails."""
    budget, background = MemoryBudget(1 << 30), Background()
    shadows = Shadows(background, budget)

    async def look() -> None:
        raise OSError("a look that fails")

    def begin(work: Callable[[], Awaitable[None]], count: int) -> Iterable[bool]:
        return [shadows.look(work, size=1000) for _ in range(count)]

    for _ in range(3):
        assert list(begin(look, MOST_AT_ONCE + 2)) == [True] * MOST_AT_ONCE + [False] * 2
        assert budget.held > 0
        await eventually(lambda: not len(background), what="the looks")
        assert budget.held == 0


async def test_a_look_takes_nothing_of_anybodys_limits_and_is_let_go_of() -> None:
    """What it asks is governed by nobody's policy of limits; when it is done its request is over, whoever was asked."""
    metrics = Metrics()
    made, written = judging(metrics, Mode.SHADOW)
    ended: list[str] = []

    class Asks(Asked):
        async def judge(self, case: Any) -> Any:
            case.ask.on_end(lambda: ended.append("over"))
            return await super().judge(case)

    asks = Asks(words=[SECRET])
    shared = SimpleNamespace(
        audit=made.shared.audit, lanes=Lanes(), shadows=Shadows(Background(), MemoryBudget(1 << 30)),
        deps=SimpleNamespace(loop_time=lambda: 0.0),
    )  # fmt: skip
    made = replace(made, shared=cast(Any, shared))
    made.ask.governed = cast(Any, SimpleNamespace())
    made.look([guard("asks", None, asks)], lambda: ([piece(f"a {SECRET}")], None), size=1)
    await eventually(lambda: bool(ended), what="the end of the look")
    assert [case.ask.governed for case in asks.cases] == [None]
    assert [(record["guard"], record["decision"], record["mode"]) for record in written] == [
        ("asks", "blocked", "Shadow")
    ]
    assert made.ask.guarded is None
    shared.lanes.close()
