"""Where tests have Kubernetes from."""

import os
from pathlib import Path

import pytest

from support.apiserver import need_own
from support.kubernetes import has_test_cluster, named_kubeconfig

LEFT_OUT = (pytest.skip.Exception, pytest.fail.Exception)  # CI fails what others leave out


def test_the_test_cluster_is_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not run it has his API server from elsewhere."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not has_test_cluster()


def test_a_named_cluster_is_spared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is done to an API server of the tests' own is not done to a cluster that is named; no other kubeconfig is
    ever taken for one that is."""
    named = tmp_path / "named"
    named.write_text("{}")
    monkeypatch.delenv("CAPSTAN_TEST_KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(named))
    assert named_kubeconfig() is None
    monkeypatch.setenv("CAPSTAN_TEST_KUBECONFIG", str(named))
    with pytest.raises(LEFT_OUT, match="an API server of the tests' own"):
        need_own(named.resolve())
    need_own(tmp_path / "own")
