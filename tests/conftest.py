"""Fixtures for every test. A fixture that starts something real ends it as well."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.apiserver import api_server
from support.needs import ROOT


def pytest_configure() -> None:
    """Give properties no time limit, and say that there is no event loop outside of tests.

    Otherwise Python 3.11 makes one for the first who asks for the current loop (pytest-asyncio), and nobody closes it.
    """
    asyncio.set_event_loop(None)
    # How long an example takes says how busy the machine is, not whether the property holds.
    settings.register_profile("capstan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("capstan")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay in one process when several share the work: a file's, and all on the one cluster or on vLLM.

    Those last ones take longest and come first, so that the other process does all the rest beside them.
    """
    for item in items:
        machine = item.path.is_relative_to(ROOT / "tests" / "e2e")
        item.add_marker(pytest.mark.xdist_group("machine" if machine else str(item.path.relative_to(ROOT))))
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "e2e"))


@pytest.fixture(scope="session")
def kube_api(worker_id: str) -> Iterator[Path]:
    """The kubeconfig of a real API server with the controller manager, shared by the process: use a namespace each.

    CAPSTAN_TEST_API_PORT chooses another port, for two sessions on one machine.
    """
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    port = int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")) + 4 * number
    with api_server(port=port, controllers=True) as kubeconfig:
        yield kubeconfig
