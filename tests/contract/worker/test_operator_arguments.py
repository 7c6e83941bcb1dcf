"""What the operator writes into a pod is what the worker reads."""

import argparse

from capstan_operator.api.llmmodel import EngineType, LLMModelSpec
from capstan_operator.desired.engine import simulator_arguments, worker_options
from capstan_operator.desired.engine_tables import TABLES
from capstan_process.settings import add_flags
from capstan_worker.__main__ import parse_arguments, read
from capstan_worker.settings import WorkerSettings
from capstan_worker.simulator.settings import SimulatorSettings


def spec(**fields: object) -> LLMModelSpec:
    """Give the spec of a simulated model."""
    engine = {"type": "Simulator", "args": ["--ttft-ms", "5"]}
    return LLMModelSpec.model_validate({"model": {"source": "hf://a/b"}, "engine": engine, **fields})


def test_the_simulator_knows_the_window_and_the_adapters_of_its_model():
    """The window is that of the manifest, and requests for an adapter find it."""
    wanted = spec(serving={"contextWindow": 4096}, adapters=[{"name": "lora", "source": "hf://a/lora"}])
    line = ["simulator", "--model", "m", *worker_options(wanted), *simulator_arguments(wanted)]
    settings = read(SimulatorSettings, parse_arguments(line))
    assert (settings.context_window, settings.aliases) == (4096, ("lora",))
    assert settings.dials.ttft_ms == 5


def test_what_the_user_says_to_the_simulator_wins():
    """A flag in the manifest's arguments takes the place of ours."""
    engine = {"type": "Simulator", "args": ["--context-window", "64"]}
    wanted = spec(engine=engine, serving={"contextWindow": 4096})
    assert simulator_arguments(wanted) == ["--context-window", "64"]


def test_the_simulators_options_are_known():
    """Every option of the simulator with a value is known to take one, or is one that only Capstan sets."""
    parser = argparse.ArgumentParser()
    add_flags(parser, SimulatorSettings, WorkerSettings)
    valued = {action.option_strings[0] for action in parser._actions if action.nargs is None}
    table = TABLES[EngineType.SIMULATOR]
    reserved = {flag for entry in table.entries for flag in entry.flags}
    assert valued - table.one_value - reserved == set()
    assert table.one_value <= valued
