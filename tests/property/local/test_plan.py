"""The planner of local mode, driven through arbitrary histories of edits, starts, crashes and ends."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capstan_contract.config import Task
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.local.launch import Launch
from capstan_operator.local.plan import Process, Slot, State, plan_processes, serving_processes
from capstan_operator.resources.resource import ObjectKey

MODELS = [ObjectKey("default", name) for name in ("chat", "embed")]
SLOTS = [Slot(model, ordinal) for model in MODELS for ordinal in range(2)]
LAUNCHES = [
    Launch(EngineType.SIMULATOR, python="python", model="m", task=Task.CHAT, arguments=(text,)) for text in "abc"
]


class Machine(RuleBasedStateMachine):
    """A world in which plans are carried out at once and everything else happens in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: dict[int, Process] = {}
        self.wanted: dict[Slot, Launch] = {}
        self.resting: set[tuple[Slot, Launch]] = set()
        self.count = 0

    @rule(wanted=st.dictionaries(st.sampled_from(SLOTS), st.sampled_from(LAUNCHES)))
    def edit(self, wanted: dict[Slot, Launch]) -> None:
        serving = {slot for slot in self._ready() if slot in wanted}
        self.wanted = wanted
        self._carry_out()
        assert serving <= self._ready(), "an edit takes no slot out of service that is still wanted"

    @precondition(lambda self: any(p.state is State.STARTING for p in self.processes.values()))
    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        starting = [p for p in self.processes.values() if p.state is State.STARTING]
        process = data.draw(st.sampled_from(starting))
        self.processes[process.id] = replace(process, state=State.READY)
        self._carry_out()
        assert process.slot in self._ready()

    @precondition(lambda self: bool(self.processes))
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        process = self.processes.pop(data.draw(st.sampled_from(sorted(self.processes))))
        if process.state is not State.STOPPING:
            self.resting.add((process.slot, process.launch))
        self._carry_out()

    @rule()
    def rest_is_over(self) -> None:
        self.resting.clear()
        self._carry_out()

    @invariant()
    def is_a_fixpoint(self) -> None:
        """A plan that has been carried out leaves nothing to do until something happens."""
        plan = plan_processes(self.processes.values(), self.wanted, self.resting)
        assert (plan.start, plan.stop) == ((), ())

    @invariant()
    def at_most_two_live_processes_share_a_slot(self) -> None:
        for slot in SLOTS:
            live = [p for p in self.processes.values() if p.slot == slot and p.state is not State.STOPPING]
            assert len(live) <= 2
            assert len([p for p in live if p.state is State.STARTING]) <= 1
            assert not live or slot in self.wanted

    @invariant()
    def every_ready_slot_serves_once(self) -> None:
        serving = serving_processes(self.processes.values(), self.wanted)
        assert set(serving) == {slot.model for slot in self.wanted}
        for model, processes in serving.items():
            assert len(processes) == len({slot for slot in self._ready() if slot.model == model})

    def teardown(self) -> None:
        """Left alone, with every start a success, it ends at exactly what is wanted."""
        self.resting.clear()
        for _ in range(4):
            self._carry_out()
            for process in list(self.processes.values()):
                if process.state is State.STARTING:
                    self.processes[process.id] = replace(process, state=State.READY)
                elif process.state is State.STOPPING:
                    del self.processes[process.id]
        assert {p.slot: p.launch for p in self.processes.values()} == self.wanted
        assert len(self.processes) == len(self.wanted)

    def _ready(self) -> set[Slot]:
        return {p.slot for p in self.processes.values() if p.state is State.READY}

    def _carry_out(self) -> None:
        plan = plan_processes(self.processes.values(), self.wanted, self.resting)
        for number in plan.stop:
            self.processes[number] = replace(self.processes[number], state=State.STOPPING)
        for slot, launch in plan.start:
            self.count += 1
            url = f"http://127.0.0.1:{self.count}"
            self.processes[self.count] = Process(self.count, slot, launch, State.STARTING, url)


TestPlan = Machine.TestCase
TestPlan.__doc__ = "Whatever happens, ready slots stay in service and the plan converges to what is wanted."
