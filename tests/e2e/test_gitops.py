"""The chart and a folder of models, synced by the real Argo CD from a git repository."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster import NAMESPACE, VALUES, Cluster, Manifest, install_chart, simulated
from support.kubernetes import need_test_cluster
from support.needs import ROOT
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ARGOCD = "argocd"
MODELS = "models"
IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com")


@dataclass(frozen=True)
class Repository:
    """A bare repository that Argo CD reads, and a clone to commit with."""

    folder: Path

    @property
    def url(self) -> str:
        """Where Argo CD finds it."""
        return f"file://{self.folder / 'repo.git'}"

    @property
    def work(self) -> Path:
        """The clone."""
        return self.folder / "work"

    def create(self) -> None:
        """Make both, with the chart in them."""
        self._git("init", "--bare", "--initial-branch=main", str(self.folder / "repo.git"), where=self.folder)
        self._git("clone", str(self.folder / "repo.git"), str(self.work), where=self.folder)
        self._git("checkout", "-b", "main", where=self.work)
        shutil.copytree(ROOT / "helm" / "capstan", self.work / "helm" / "capstan")
        (self.work / "models").mkdir()

    def commit(self, message: str, **models: Manifest | None) -> str:
        """Write models (None removes one), commit, push; give the commit's id."""
        for name, manifest in models.items():
            path = self.work / "models" / f"{name}.yaml"
            if manifest is None:
                path.unlink()
            else:
                path.write_text(yaml.safe_dump(manifest))
        self._git("add", "--all", where=self.work)
        self._git("commit", "-m", message, where=self.work)
        self._git("push", "origin", "main", where=self.work)
        return self._git("rev-parse", "HEAD", where=self.work).strip()

    def _git(self, *words: str, where: Path) -> str:
        command = ["git", *IDENTITY, *words]
        return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, timeout=120).stdout


@dataclass(frozen=True)
class GitOps:
    """Argo CD with two Applications."""

    cluster: Cluster
    repository: Repository

    def application(self, name: str) -> Manifest:
        """Give an Application as it is."""
        return self.cluster.get("applications.argoproj.io", name, ARGOCD) or {}

    def refresh(self, name: str) -> Manifest:
        """Have Argo CD compare once more; give the Application as it is then."""
        note = "argocd.argoproj.io/refresh"
        self.cluster.kubectl(
            "annotate", "applications.argoproj.io", name, "-n", ARGOCD, "--overwrite", f"{note}=normal"
        )

        def compared() -> Manifest | None:
            # NB: it takes the annotation away with what it has found, whose time is in whole seconds.
            found = self.application(name)
            return None if note in (found["metadata"].get("annotations") or {}) else found

        found = wait_until(compared, seconds=120, what=f"a new comparison of {name}")
        assert found
        return found

    def wait(self, name: str, health: str, *, revision: str | None = None, seconds: float = 240) -> Manifest:
        """Wait until an Application is Synced, at the revision, and of this health."""

        def there() -> Manifest | None:
            found = self.refresh(name)
            status = found.get("status") or {}
            sync = status.get("sync") or {}
            seen = (sync.get("status"), (status.get("health") or {}).get("status"), sync.get("revision"))
            assert seen == ("Synced", health, revision or seen[2]), (seen, status.get("conditions"))
            return found

        wait_until(lambda: self.application(name).get("status", {}).get("reconciledAt"), what=f"a first look at {name}")
        found = wait_until(there, seconds=seconds, every=0.5, what=f"{name} Synced and {health}")
        assert found
        return found


def _application(file: str, repository: Repository, values: Manifest | None = None) -> Manifest:
    """Give the example Application, pointed at the test's repository."""
    application: Manifest = yaml.safe_load((ROOT / "helm" / "argocd" / file).read_text())
    application["metadata"]["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
    application["spec"]["source"]["repoURL"] = repository.url
    if values:
        application["spec"]["source"]["helm"]["valuesObject"] = values
    if "retry" in application["spec"]["syncPolicy"]:
        # Sooner than for users, who need not watch the CRDs come.
        application["spec"]["syncPolicy"]["retry"]["backoff"] = {"duration": "2s", "factor": 1}
    return application


@pytest.fixture(scope="module")
def gitops(capstan: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitOps]:
    """Argo CD in charge of the chart, in place of Helm, and of one model; Helm takes over again at the end."""
    script = need_test_cluster("with Argo CD, which reads a repository of this machine")
    repository = Repository(tmp_path_factory.mktemp("gitops"))
    repository.create()
    repository.commit("Serve chat", chat=_chat())
    capstan.helm("uninstall", "capstan", "--namespace", NAMESPACE, "--wait", "--timeout", "240s")
    done = subprocess.run([str(script), "argocd"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    health = (ROOT / "helm" / "argocd" / "argocd-cm.yaml").read_text()
    apply = ("apply", "-n", ARGOCD, "--server-side", "--field-manager=capstan", "-f", "-")
    capstan.kubectl(*apply, given=health)
    chart = _application("application-capstan.yaml", repository, VALUES)
    capstan.apply(ARGOCD, chart, _application("application-models.yaml", repository))
    yield GitOps(capstan, repository)
    capstan.kubectl("delete", "applications.argoproj.io", "models", "-n", ARGOCD, "--timeout=100s")
    capstan.kubectl("delete", "applications.argoproj.io", "capstan", "-n", ARGOCD, "--timeout=120s")
    install_chart(capstan)


def _chat(**model: Any) -> Manifest:
    return simulated("chat", model={"servedName": "gitops-chat", **model})


def test_synced_and_healthy(gitops: GitOps) -> None:
    """The chart and the models are Synced and Healthy, and stay so without another sync: nothing fights."""
    for name in ("capstan", "models"):
        gitops.wait(name, "Healthy")

        def is_over(name: str = name) -> bool:
            return bool(gitops.application(name)["status"]["operationState"]["phase"] == "Succeeded")

        wait_until(is_over, seconds=120, what=f"the end of the sync of {name}")
    before = {name: gitops.refresh(name) for name in ("capstan", "models")}
    for _ in range(2):
        for name, first in before.items():
            after = gitops.refresh(name)
            assert after["status"]["sync"]["status"] == "Synced"
            assert after["status"]["health"]["status"] == "Healthy"
            assert len(after["status"]["history"]) == len(first["status"]["history"])
            assert after["status"]["operationState"]["finishedAt"] == first["status"]["operationState"]["finishedAt"]


def test_a_commit_is_rolled_out(gitops: GitOps, gateway: str) -> None:
    """A commit that changes a model's name, engine and replicas arrives, and the model is Healthy at that revision."""
    changed = _chat(servedName="gitops-renamed")
    changed["spec"] |= {"replicas": 2, "engine": {"type": "Simulator", "args": ["--ttft-ms", "10"]}}
    revision = gitops.repository.commit("Rename chat", chat=changed)
    gitops.wait("models", "Healthy", revision=revision)
    wait_until(
        lambda: gitops.cluster.status("llmmodels", "chat", MODELS).get("readyReplicas") == 2, what="both replicas"
    )

    def is_served_alone() -> bool:
        # Models of tests before this one go with their namespaces, which takes a while.
        with urllib.request.urlopen(f"{gateway}/v1/models", timeout=30) as answer:  # noqa: S310
            served = {entry["id"] for entry in json.load(answer)["data"]}
        assert served == {"auto", "gitops-renamed"}
        return True

    wait_until(is_served_alone, what="the new name alone")


def test_a_broken_model_is_degraded(gitops: GitOps) -> None:
    """A model that cannot be served is Degraded, and Healthy again once a commit takes it away."""
    gitops.wait("models", "Healthy")
    wrong = simulated("wrong", cache={"claimName": "no-such-claim"})
    revision = gitops.repository.commit("Add a model without its claim", wrong=wrong)
    gitops.wait("models", "Degraded", revision=revision)
    revision = gitops.repository.commit("Take it away again", wrong=None)
    gitops.wait("models", "Healthy", revision=revision)
    assert gitops.cluster.get("llmmodels", "wrong", MODELS) is None
