"""What is counted of a request, and what its line says."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.record import record
from capstan_gateway.pipeline.reply import StreamReply, WholeReply
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.telemetry.metrics import CLIENT_GONE, UNKNOWN_MODEL, Metrics, ModelMetrics
from capstan_gateway.telemetry.tenants import TenantMetrics
from capstan_gateway.telemetry.usage_counts import Row, UsageCounts
from capstan_gateway.tokens.bill import TOLD, How
from capstan_gateway.tokens.usage import Usage
from support.asks import CHAT, an_ask

WHOLE = WholeReply(200, b"application/json", b"{}")


class Recorded:
    """A delivery of a minute and a half, and what is known of it when it is over."""

    def __init__(self, *, asked: bool = True, enabled: bool = True, begun: bool = False, **fields: Any) -> None:
        self.metrics = Metrics()
        self.lines: list[dict[str, object]] = []
        entry = ModelEntry(id="t/m", servedName="m", upstreamName="m", backend=StaticBackend(urls=()))
        cells = ModelMetrics(self.metrics, "m")
        self.model = ServedModel(
            entry, name="m", upstream_name="m", endpoints=EndpointSet(EndpointRegistry()), metrics=cells
        )
        runtime: Any = None
        started = fields.pop("started", 10.0)
        self.delivery = Delivery(
            cast(Any, SimpleNamespace(started=begun)), route=CHAT, runtime=runtime, started=started, expires_at=99.0
        )
        self.delivery.request_id = b"r-1"
        self.ask = an_ask(self.model)
        if asked:
            self.delivery.ask = self.ask
            cells.in_flight.value += 1
        for name, value in fields.items():
            setattr(self.delivery, name, value)
        self.usage = UsageCounts(most=9, today=lambda: "d")
        log = SimpleNamespace(enabled=enabled, write=self.lines.append)
        self.deps = cast(
            Deps,
            SimpleNamespace(
                clock=lambda: 100.125,
                metrics=self.metrics,
                request_log=log,
                tenants=TenantMetrics(self.metrics, 2),
                pseudonyms=Pseudonyms(b"k" * 16),
                usage=self.usage,
                given=None,
            ),
        )

    def over(self) -> dict[str, object]:
        """End it; give its line."""
        record(self.delivery, self.deps)
        assert self.ask.model.metrics.in_flight.value == 0
        (line,) = self.lines
        return line

    def sample(self, name: str, **labels: str) -> float:
        """Give a number of the metrics page."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def test_usage_is_counted_for_who_asked() -> None:
    """What is on the bill, for the tenant of the credential; a request that no model was called for counts nowhere."""
    recorded = Recorded()
    recorded.ask.bill.add(Usage(3, 4), TOLD, 5, model="m")
    recorded.over()
    assert recorded.usage.take() == {Row("d", "everybody", "", "", "m"): [1, 3, 0, 4, 5, 0]}
    for asked in (True, False):
        recorded = Recorded(asked=asked, enabled=False)
        record(recorded.delivery, recorded.deps)
        assert recorded.usage.take() == {}


def test_a_request_that_asks_for_no_model_is_counted_too() -> None:
    """Under no name of the client's, with the status that it was told, and nothing of a model in its line."""
    recorded = Recorded(asked=False, status=404, error=InvalidRequest("no", code="model_not_found"))
    assert recorded.over() == {
        "request_id": "r-1", "route": CHAT.path, "model": UNKNOWN_MODEL, "status": 404, "stream": False,
        "duration_ms": 90125.0, "attempts": 0, "error": "model_not_found",
    }  # fmt: skip
    assert recorded.sample("llm_requests_total", model=UNKNOWN_MODEL, status="404") == 1


@pytest.mark.parametrize(
    ("status", "gone", "counted"), [(200, False, 200), (0, False, 500), (429, False, 429), (200, True, CLIENT_GONE)]
)
def test_a_request_is_counted_by_what_became_of_it(status: int, gone: bool, counted: int) -> None:
    """One whose client went is that; one that nobody told anything has failed."""
    recorded = Recorded(status=status, client_gone=gone)
    line = recorded.over()
    assert (line["status"], line["model"], line["stream"]) == (counted, "m", False)
    assert recorded.sample("llm_requests_total", model="m", status=str(counted)) == 1
    assert recorded.sample("gateway_upstream_aborts_total", model="m", cause="client_gone") == int(gone)
    assert recorded.sample("llm_request_latency_seconds_sum", model="m") == 90.125


def test_a_plain_answer_has_a_plain_line() -> None:
    """What did not happen is not in it."""
    assert Recorded(status=200).over() == {
        "request_id": "r-1", "route": CHAT.path, "model": "m", "status": 200, "stream": False,
        "duration_ms": 90125.0, "attempts": 0,
    }  # fmt: skip


@pytest.mark.parametrize("asked", [True, False])
def test_each_request_adds_to_those_before(asked: bool) -> None:
    """Those of a model, and those that named none."""
    recorded = Recorded(asked=asked, status=200)
    recorded.ask.stats.retries = 3
    for _ in range(2):
        record(recorded.delivery, recorded.deps)
    model = "m" if asked else UNKNOWN_MODEL
    assert recorded.sample("llm_requests_total", model=model, status="200") == 2
    assert recorded.sample("gateway_retries_total", model="m", kind="endpoint") == (6 if asked else 0)
    assert len(recorded.lines) == 2


def test_times_are_said_in_hundredths_of_a_millisecond() -> None:
    """More digits would say nothing."""
    line = Recorded(status=200, started=10.0012344, first_sent_at=10.1234567).over()
    assert (line["duration_ms"], line["first_token_ms"]) == (90123.77, 122.22)


def test_nothing_is_written_where_nobody_reads() -> None:
    """The metrics are counted all the same."""
    recorded = Recorded(status=200, enabled=False)
    record(recorded.delivery, recorded.deps)
    assert recorded.lines == []
    assert recorded.sample("llm_requests_total", model="m", status="200") == 1


@pytest.mark.parametrize(
    ("begun", "error", "known"), [(True, None, True), (False, None, False), (True, UpstreamFailed("x"), False)]
)
def test_our_own_time_is_known_of_answers_that_begun_well(begun: bool, error: GatewayError | None, known: bool) -> None:
    """Of what failed, or never began, it would say nothing about answers."""
    recorded = Recorded(status=200, begun=begun, error=error, overhead=0.0123456)
    line = recorded.over()
    assert line.get("overhead_ms") == (12.346 if known else None)
    assert recorded.sample("gateway_overhead_seconds_count", model="m") == int(known)
    assert line.get("error") == (None if error is None else "upstream_error")


def test_an_error_without_a_code_is_known_by_its_type() -> None:
    """The code if there is one: it says more."""
    assert Recorded(error=InvalidRequest("x")).over()["error"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("events", "reply", "between"), [(4, "stream", 30.0), (2, "stream", 90.0), (1, "stream", None), (4, "whole", None)]
)
def test_a_stream_is_known_by_its_first_token_and_what_is_between(
    events: int, reply: str, between: float | None
) -> None:
    """From the first one sent to the end, shared by those that followed; a single one has nothing between."""
    source: Any = SimpleNamespace(endpoint=SimpleNamespace(id="t/m@1"))
    stream = StreamReply(b"", source, cast(Any, SimpleNamespace(events=events)))
    recorded = Recorded(status=200, first_sent_at=10.125, reply=stream if reply == "stream" else WHOLE)
    line = recorded.over()
    assert line["first_token_ms"] == 125.0
    assert line.get("endpoint") == ("t/m@1" if reply == "stream" else None)
    assert recorded.sample("llm_time_to_first_token_seconds_sum", model="m") == 0.125
    assert recorded.sample("llm_inter_token_seconds_count", model="m") == int(between is not None)
    assert recorded.sample("llm_inter_token_seconds_sum", model="m") == (between or 0.0)


def test_what_was_done_for_an_answer_is_said() -> None:
    """How often was tried, what failed, what it cost and how that is known, who answered, and how it was routed."""
    recorded = Recorded(status=200)
    ask = recorded.ask
    ask.stats.attempts, ask.stats.retries, ask.stats.hedges = 4, 3, ("won", "lost", "won")
    ask.stats.failures = ["500"]
    ask.bill.add(Usage(5, 3), How.TOLD, 1_500_000_000)
    other = SimpleNamespace(name="other", track="")
    other.main = other
    ask.answered_by = cast(ServedModel, other)
    ask.route_note = b"cheapest"
    line = recorded.over()
    assert {name: line[name] for name in list(line)[6:]} == {
        "attempts": 4, "input_tokens": 5, "output_tokens": 3, "tokens": "told", "cost_dollars": 1.5,
        "failures": ["500"], "answered_by": "other", "routed": "cheapest",
    }  # fmt: skip
    assert recorded.sample("gateway_retries_total", model="m", kind="endpoint") == 3
    assert recorded.sample("llm_hedges_total", model="m", outcome="won") == 2
    assert recorded.sample("llm_hedges_total", model="m", outcome="lost") == 1


def test_a_model_that_answered_itself_is_not_named_twice() -> None:
    """Nor is a cost said that nobody knows."""
    recorded = Recorded(status=200)
    recorded.ask.answered_by = recorded.model
    recorded.ask.bill.add(Usage(5, 3), How.ESTIMATED, None)
    line = recorded.over()
    assert "answered_by" not in line
    assert "cost_dollars" not in line
    assert line["tokens"] == "estimated"


def test_who_asked_is_in_the_line() -> None:
    """Tenant and the key's name as they are, the user as a hash; nothing of a request without a credential."""
    line = Recorded(status=200, principal=Principal(tenant="red", user="ann", key="k1")).over()
    assert {name: line[name] for name in ("tenant", "key", "user")} == {
        "tenant": "red", "key": "k1", "user": Pseudonyms(b"k" * 16).of("ann", at="log"),
    }  # fmt: skip
    assert "user" not in Recorded(status=200, principal=Principal(tenant="red", key="k1")).over()
    assert not {"tenant", "key", "user"} & set(Recorded(status=200).over())


@pytest.mark.parametrize(
    ("principal", "hidden"),
    [
        (Principal(tenant="user:ann@example.com", user="ann@example.com", key="k1"), "ann"),
        (Principal(tenant="user:ann", user="ann", key="https://idp.example.com 4711"), "4711"),
        (Principal(tenant="key:https://idp.example.com 4711", key="https://idp.example.com 4711"), "4711"),
    ],
)
def test_nobody_is_said_by_name(principal: Principal, hidden: str) -> None:
    """Neither a tenant that is one user, nor the subject of a token, in the log or in a metric."""
    recorded = Recorded(status=200, principal=principal)
    line = recorded.over()
    assert hidden not in str(line)
    assert "ann" not in str(line)
    kind = principal.tenant.partition(":")[0]
    assert str(line["tenant"]).startswith(f"{kind}:u_")
    assert recorded.sample("llm_tenant_requests_total", tenant=str(line["tenant"]), status="200") == 1


def test_the_name_of_a_key_that_is_its_own_tenant_is_said() -> None:
    """It is that of a resource, and nobody's."""
    line = Recorded(status=200, principal=Principal(tenant="key:k1", key="k1")).over()
    assert (line["tenant"], line["key"]) == ("key:k1", "k1")


def test_tenants_are_counted_up_to_a_cap() -> None:
    """What they asked, and their bills; those beyond the cap are one, and whoever is called so is among them."""
    recorded = Recorded(status=200)
    for tenant in ("other", "a", "b", "c", "a", "d"):
        recorded.delivery.principal = Principal(tenant=tenant, key="k")
        recorded.ask.bill.add(Usage(3, 2), TOLD, 7)
        record(recorded.delivery, recorded.deps)
    counts = {
        tenant: recorded.sample("llm_tenant_requests_total", tenant=tenant, status="200")
        for tenant in ("a", "b", "c", "d", "other")
    }
    assert counts == {"a": 2, "b": 1, "c": 0, "d": 0, "other": 3}
    assert recorded.sample("llm_tenant_tokens_total", tenant="b", direction="input") == 9
    assert recorded.sample("llm_tenant_cost_dollars", tenant="b") == pytest.approx(21e-9)
