"""Asking the gateway's replicas, and waking the models for which the answer is another one."""

import asyncio
from collections.abc import Mapping

import aiohttp
import pytest

from capstan_contract.config import ConfigReport
from capstan_operator.gateway_config.acknowledge import Acknowledger, Expected
from capstan_operator.gateway_config.ledger import Recorded
from capstan_operator.gateway_config.replicas import ABSENT_FOR
from capstan_operator.metrics import Metrics
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from capstan_operator.status.types import Acknowledgement, AckState, Problem
from support.memorykube import MemoryKube

A, B = ObjectKey("team", "a"), ObjectKey("team", "b")
ONE, TWO = "10.0.0.1", "10.0.0.2"


class Asked(Acknowledger):
    """Replicas that answer what they are told to, and a count of the judgements."""

    def __init__(self, *addresses: str) -> None:
        self.woken: list[ObjectKey] = []
        kube = MemoryKube()
        kube.objects["gw"] = {
            "metadata": {
                "name": "gw",
                "labels": {"kubernetes.io/service-name": Settings().build.gateway_service},
            },
            "endpoints": [{"addresses": [address]} for address in addresses],
        }
        super().__init__(kube, Settings(), wake=self.woken.append, metrics=Metrics())
        self.answers: Mapping[str, ConfigReport | None] = {}
        self.judged = 0

    async def _ask(self, session: aiohttp.ClientSession | None, address: str) -> ConfigReport | None:
        return self.answers.get(address)

    def acknowledgement(self, key: ObjectKey, **what: object) -> object:  # type: ignore[override]
        """Count, and judge."""
        self.judged += 1
        return super().acknowledgement(key, **what)  # type: ignore[arg-type]

    async def poll(self, **answers: str | None) -> list[ObjectKey]:
        """Ask once; give the models that were woken by it."""
        self.answers = {
            {"one": ONE, "two": TWO}[who]: ConfigReport(hash=what) if what else None for who, what in answers.items()
        }
        self.woken.clear()
        await self._ask_all(None)  # type: ignore[arg-type]
        return list(self.woken)

    def write(self, config: str, a: int, b: int, **more: Problem) -> None:
        """Say that a config with these generations is written."""
        self.ledger.record(config, {str(A): Recorded("u", a), str(B): Recorded("u", b)})
        self.expect(config, {A: Expected("u", a, True), B: Expected("u", b, True)}, **more)

    def state(self, key: ObjectKey, generation: int) -> AckState:
        """Give what is said of a generation."""
        return super().acknowledgement(key, uid="u", generation=generation, served=True).state


@pytest.fixture
async def gateway() -> Asked:
    """Two ready replicas that run config `x`."""
    asked = Asked(ONE, TWO)
    asked.write("x", 1, 1)
    assert asked.state(A, 1) is AckState.UNKNOWN
    assert set(await asked.poll(one="x", two="x")) == {A, B}
    return asked


async def test_a_replica_that_is_silent_for_a_moment_wakes_nobody(gateway: Asked) -> None:
    """And costs no look at any model, however many there are."""
    gateway.judged = 0
    assert await gateway.poll(one="x", two=None) == []
    assert await gateway.poll(one="x", two="x") == []
    assert gateway.judged == 0
    assert gateway.state(A, 1) is AckState.ACKNOWLEDGED
    assert not gateway.pending


async def test_a_process_that_begins_does_not_believe_for_a_while_that_there_is_no_gateway() -> None:
    """Operator and gateway restarted together: nothing is known of any model until a replica has answered, or none was
    ready for as long as it takes."""
    asked = Asked()
    asked.write("x", 1, 1)
    assert await asked.poll() == []
    assert asked.state(A, 1) is AckState.UNKNOWN
    assert asked.pending
    asked._said._absent_since = asyncio.get_running_loop().time() - ABSENT_FOR
    assert set(await asked.poll()) == {A, B}
    assert asked.state(A, 1) is AckState.NO_GATEWAY
    assert not asked.pending


async def test_a_replica_is_asked_at_its_other_address_when_one_does_not_answer() -> None:
    """Without a route to one family, it is still known what a dual-stack replica runs, and that it is one."""
    asked = Asked()
    asked._kube.objects["gw"]["endpoints"] = [  # type: ignore[attr-defined]
        {"addresses": [address], "targetRef": {"uid": "pod"}} for address in (ONE, TWO)
    ]
    asked.write("x", 1, 1)
    await asked.poll(one=None, two="x")
    found = asked.acknowledgement(A, uid="u", generation=1, served=True)
    assert found == Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=1, ready=1)


async def test_only_models_for_which_the_answer_changed_are_woken(gateway: Asked) -> None:
    """One model of two has a new generation: it is woken when the last replica runs it."""
    gateway.write("y", 2, 1)
    assert gateway.state(A, 2) is AckState.PENDING
    assert gateway.state(B, 1) is AckState.ACKNOWLEDGED
    assert gateway.pending
    assert await gateway.poll(one="y", two="x") == []
    assert await gateway.poll(one="y", two="y") == [A]
    assert gateway.state(A, 2) is AckState.ACKNOWLEDGED
    assert not gateway.pending


async def test_a_generation_that_changes_nothing_is_acknowledged_without_a_question(gateway: Asked) -> None:
    """A scale has the same config: the ledger knows, and nobody has to be asked."""
    gateway.write("x", 2, 1)
    assert gateway.state(A, 2) is AckState.ACKNOWLEDGED


async def test_a_config_that_cannot_be_written_blocks_what_it_does_not_have(gateway: Asked) -> None:
    """What is in the written config as it is now goes on; when the newer one is written, the models are woken."""
    problem = Problem("ConfigTooLarge", "it does not fit")
    gateway.expect("x", {A: Expected("u", 2, True), B: Expected("u", 1, True)}, problem=problem)
    blocked = Acknowledger.acknowledgement(gateway, A, uid="u", generation=2, served=True)
    assert (blocked.state, blocked.problem) == (AckState.BLOCKED, problem)
    assert gateway.state(B, 1) is AckState.ACKNOWLEDGED
    gateway.woken.clear()
    gateway.write("y", 2, 1)
    assert gateway.woken == [A]
    assert gateway.state(A, 2) is AckState.PENDING


async def test_a_restarted_operator_concludes_nothing_from_a_config_that_it_does_not_know() -> None:
    """Until the replicas run what it wrote itself, no generation is acknowledged and none is denied."""
    asked = Asked(ONE, TWO)
    asked.write("mine", 1, 1)
    assert await asked.poll(one="theirs", two="theirs") == []
    assert asked.state(A, 1) is AckState.UNKNOWN
    assert asked.pending
    assert set(await asked.poll(one="mine", two="mine")) == {A, B}


async def test_replicas_that_could_not_be_listed_keep_what_they_said(
    gateway: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that is away for a moment is no word of the gateway."""
    from capstan_operator.kube.errors import KubeError

    async def refuse(*_: object, **__: object) -> None:
        raise KubeError("away")

    gateway.rouse()
    monkeypatch.setattr(gateway._kube, "list", refuse)
    assert await gateway.poll(one=None, two=None) == []
    assert gateway.state(A, 1) is AckState.ACKNOWLEDGED
    await asyncio.sleep(0)
