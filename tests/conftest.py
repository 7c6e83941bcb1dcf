"""Fixtures for every test. A fixture that starts something real ends it as well."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.apiserver import api_server


def pytest_configure() -> None:
    """Give properties no time limit, and say that there is no event loop outside of tests.

    Otherwise Python 3.11 makes one for the first who asks for the current loop (pytest-asyncio), and nobody closes it.
    """
    asyncio.set_event_loop(None)
    # How long an example takes says how busy the machine is, not whether the property holds.
    settings.register_profile("capstan", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("capstan")


@pytest.fixture(scope="session")
def kube_api() -> Iterator[Path]:
    """The kubeconfig of a real API server with the controller manager, shared by the session: use a namespace each.

    CAPSTAN_TEST_API_PORT chooses another port, for two sessions on one machine.
    """
    with api_server(port=int(os.environ.get("CAPSTAN_TEST_API_PORT", "7443")), controllers=True) as kubeconfig:
        yield kubeconfig
