"""Fixtures for every test. A fixture that starts something real ends it as well."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.apiserver import api_server


@pytest.fixture(scope="session")
def kube_api() -> Iterator[Path]:
    """The kubeconfig of a real API server with the controller manager, shared by the session: use a namespace each."""
    with api_server(port=7443, controllers=True) as kubeconfig:
        yield kubeconfig
