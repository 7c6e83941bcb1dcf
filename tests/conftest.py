"""Fixtures for every test. A fixture that starts something real ends it as well."""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, Phase, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from support import compatibility
from support.apiserver import any_api_server, need_controllers
from support.order import rank_of, scope_of


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the names of the files that docs/compatibility.md is made of and compared with."""
    group = parser.getgroup("compatibility")
    group.addoption("--compatibility-collected", type=Path, help="write the rows of all collected tests to this file")
    group.addoption("--compatibility-passed", type=Path, help="write the rows of all tests that passed to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Give properties no time limit, take SIGTERM for Ctrl-C, and say that there is no event loop outside of tests.

    Otherwise Python 3.11 makes one for the first who asks for the current loop (pytest-asyncio), and nobody closes it.
    """
    asyncio.set_event_loop(None)
    # Whoever ends a run that way, too, wants everything ended that the tests have started.
    signal.signal(signal.SIGTERM, _interrupt)
    # How long an example takes says how busy the machine is, not whether the property holds.
    settings.register_profile("capstan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    # For each mutant the same few examples: it is killed by a rule that holds always, not by luck. Nobody reads the one
    # that fails, so it is not made smaller.
    settings.register_profile(
        "mutants",
        deadline=None,
        suppress_health_check=list(HealthCheck),
        max_examples=25,
        phases=(Phase.explicit, Phase.generate),
        derandomize=True,
        database=None,
    )
    # What a change is judged by is the same each time; new examples are looked for where somebody can read them.
    settings.register_profile("ci", settings.get_profile("capstan"), derandomize=True, database=None, print_blob=True)
    by_default = "ci" if os.environ.get("CI") == "true" else "capstan"
    settings.load_profile(os.environ.get("CAPSTAN_HYPOTHESIS_PROFILE", by_default))
    # The process that hears of all tests writes, and not those that run a part of them.
    of_all = not hasattr(config, "workerinput")
    config.pluginmanager.register(
        compatibility.Plugin(
            collected=config.getoption("--compatibility-collected") if of_all else None,
            passed=config.getoption("--compatibility-passed") if of_all else None,
        )
    )


def _interrupt(_: int, __: FrameType | None) -> None:
    # Once: make passes the signal on to those who have had it, and they are at it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they should begin."""
    items.sort(key=lambda item: rank_of(item.nodeid))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is there of all tests: a full collection, of which some tests make many, else
    takes the better part of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Let one process have the cluster, one at a time vLLM, and all do the rest beside that, a file at a time."""
    return ByScope(config, log)


class ByScope(LoadScopeScheduling):
    """xdist's scheduler, with `scope_of`."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.fixture(scope="session")
def kube_api(worker_id: str) -> Iterator[Path]:
    """The kubeconfig of a real API server, shared by the process: use a namespace each.

    CAPSTAN_TEST_API_PORT chooses another port, for two sessions on one machine.
    """
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    port = int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")) + 4 * number
    with any_api_server(port=port) as kubeconfig:
        yield kubeconfig


@pytest.fixture
def controllers(kube_api: Path) -> None:
    """Kubernetes' own controllers run: what has lost its owner goes, Deployments make pods."""
    need_controllers(kube_api)
