"""Which models of a folder do not come up, and what their clients are told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from capstan_contract.config import GatewayConfig, StaticBackend, Task
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.local.launch import Launch
from capstan_operator.local.plan import MANY_CRASHES, Crashes, Process, Slot, State, failing_models
from capstan_operator.local.session import compile_folder, with_start_failure
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import make_model

KEY = ObjectKey("team", "llama")
BEGAN = datetime(2026, 5, 4, 12, tzinfo=UTC)
LAUNCH = Launch(EngineType.SIMULATOR, python="python", model="llama", task=Task.CHAT)
PROCESS = Process(1, Slot(KEY), LAUNCH, State.READY, "http://127.0.0.1:1")


def _failing(*counts: int, processes: tuple[Process, ...] = (), now: Launch = LAUNCH) -> dict[ObjectKey, datetime]:
    """Give what fails of a model of which each slot has crashed so often."""
    slots = [Slot(KEY, number) for number in range(len(counts))]
    crashes = {
        slot: Crashes(LAUNCH, count, BEGAN + timedelta(seconds=slot.ordinal))
        for slot, count in zip(slots, counts, strict=True)
        if count
    }
    return failing_models(processes, dict.fromkeys(slots, now), crashes)


@pytest.mark.parametrize(
    ("counts", "fails"),
    [
        ((MANY_CRASHES,), True), ((MANY_CRASHES - 1,), False), ((0,), False),
        ((9, MANY_CRASHES), True), ((9, MANY_CRASHES - 1), False), ((9, 0), False),
    ],
)  # fmt: skip
def test_a_model_fails_when_each_of_its_processes_keeps_ending(counts: tuple[int, ...], fails: bool) -> None:
    """One that may still come up is waited for; it is so since the first crash of all."""
    assert _failing(*counts) == ({KEY: BEGAN} if fails else {})


def test_a_ready_process_or_another_launch_ends_it() -> None:
    """Also one of an older launch answers; a changed manifest is another try. What is on its way again does not."""
    assert _failing(9, processes=(PROCESS,)) == {}
    older = replace(PROCESS, launch=replace(LAUNCH, arguments=("before",)))
    assert _failing(9, processes=(older,)) == {}
    assert _failing(9, now=replace(LAUNCH, arguments=("after",))) == {}
    assert _failing(9, processes=(replace(PROCESS, state=State.STARTING),)) == {KEY: BEGAN}


def test_clients_are_told_while_no_process_is_there() -> None:
    """By the config, as in a cluster; what a manifest says of another place is not believed."""
    dumped = make_model(created="", status={"startFailure": {"reason": "X", "since": "2026-05-04T11:00:00Z"}})

    def entry(since: datetime | None, *urls: str) -> object:
        model = with_start_failure(dumped, since)
        compiled = compile_folder([model], GatewayConfig.build(()), lambda _: StaticBackend(urls=urls))
        failure = compiled.config.models[0].startFailure
        return None if failure is None else (failure.reason, failure.message, failure.since)

    assert entry(None) is None
    assert entry(BEGAN) == ("CrashLoop", "its engine ends again each time that it is started", BEGAN.timestamp())
    assert entry(BEGAN, "http://127.0.0.1:1") is None
