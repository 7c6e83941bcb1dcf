"""Where tests have Kubernetes from, in this order:

    the test cluster (../shared/cluster)    an API server alone, or a whole cluster with a node
    KUBEBUILDER_ASSETS                      a folder with etcd and kube-apiserver, as setup-envtest makes it: an API
                                            server alone; with a kube-controller-manager in it that runs as well
    CAPSTAN_TEST_KUBECONFIG                 a cluster that is named for just this; nobody's default one is ever touched

https://book.kubebuilder.io/reference/envtest has the convention.
"""

import os
import shutil
import subprocess
from pathlib import Path

from support.lock import exclusive
from support.needs import CLUSTER, lacking

HOME = Path(os.environ.get("CLUSTER_HOME", "/var/lib/test-cluster"))
"""Where the test cluster keeps its programs and its state."""


def has_test_cluster() -> bool:
    """Say whether the test cluster's script is there, and may be run."""
    return CLUSTER.exists() and os.geteuid() == 0


def need_test_cluster(why: str = "") -> Path:
    """Give the test cluster's script, for what no other cluster has. Leaves the running test out where it is not."""
    if not has_test_cluster():
        lacking(f"the test cluster (../shared/cluster, as root){' ' if why else ''}{why}")
    return CLUSTER


def assets() -> Path | None:
    """Give the folder of KUBEBUILDER_ASSETS, if it is set. Fails the test when it has not what it is for."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        return None
    folder = Path(named)
    missing = [name for name in ("etcd", "kube-apiserver") if not (folder / name).is_file()]
    assert not missing, (
        f"KUBEBUILDER_ASSETS={named} has no {' and no '.join(missing)}: 'setup-envtest use -p path' says where"
    )
    return folder


def named_kubeconfig() -> Path | None:
    """Give the kubeconfig that CAPSTAN_TEST_KUBECONFIG names, if it is set. Fails the test when it is not there."""
    named = os.environ.get("CAPSTAN_TEST_KUBECONFIG")
    if not named:
        return None
    assert Path(named).is_file(), f"CAPSTAN_TEST_KUBECONFIG={named} is no file"
    return Path(named).resolve()


def program(name: str) -> str:
    """Give the path of kubectl or helm: the test cluster's, that of KUBEBUILDER_ASSETS, or the one on the PATH."""
    if has_test_cluster():
        with exclusive("cluster"):  # whoever unpacks has it whole before anybody else looks
            if not (HOME / "bin" / name).exists():
                _unpack()
        return str(HOME / "bin" / name)
    folder = assets()
    found = shutil.which(name, path=str(folder)) if folder else None
    found = found or shutil.which(name)
    if found is None:
        lacking(f"{name} on the PATH")
    return str(found)


def _unpack() -> None:
    """Have the test cluster unpack its programs, which its first start on a machine does."""
    home = "/tmp/capstan-unpack"  # noqa: S108 - only a name; `api down` removes it
    for action in ("up", "down"):
        command = [str(CLUSTER), "api", action, "--dir", home, "--port", "7470"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
