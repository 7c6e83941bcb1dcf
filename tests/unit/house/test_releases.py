"""What a release is made of: one version, the changelog, the workflows, and images that name one release."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_operator.names import RELEASE
from capstan_operator.settings import NO_REGISTRY, BuildSettings
from support.needs import ROOT, lacking

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
FLOATING = re.compile(r":(latest|main|master|nightly|dev|stable[\w.-]*|\d+|[a-z]+)$")


def _release(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "release.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _jobs(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text())["jobs"])


def test_versions_agree() -> None:
    """pyproject.toml, the chart and what it installs, the CRDs and the operator's defaults say the same version."""
    done = _release("check", f"v{RELEASE}")
    assert " says " not in done.stderr
    settings = BuildSettings()
    assert settings.worker_image == f"{NO_REGISTRY}/worker:{RELEASE}"
    assert settings.evaluation_image == f"{NO_REGISTRY}/operator:{RELEASE}"
    done = _release("check", "v99.0.0")
    assert done.returncode == 1
    for place in ("pyproject.toml", "Chart.yaml (version", "appVersion", "names.py", "settings.py", "crds/llmmodels"):
        assert place in done.stderr
    assert "says" in done.stderr
    assert "no section `## [99.0.0]`" in done.stderr


def test_nothing_is_left_without_a_version(tmp_path: Path) -> None:
    """Changes that still stand under [Unreleased] keep a release from being made."""
    for name in ("pyproject.toml", "scripts", "crds", "helm/capstan", "operator/capstan_operator"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "scripts").unlink()
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "release.py"
    script.write_text((ROOT / "scripts" / "release.py").read_text())
    for unreleased, code in (("- A change.\n", 1), ("", 0)):
        (tmp_path / "CHANGELOG.md").write_text(
            f"# Changes\n\n## [Unreleased]\n\n{unreleased}\n## [{RELEASE}]\n\n- All.\n"
        )
        done = subprocess.run(
            [sys.executable, str(script), "check", RELEASE], capture_output=True, text=True, check=False
        )
        assert (done.returncode, "under [Unreleased]" in done.stderr) == (code, code == 1), done.stderr


@pytest.mark.parametrize("wrong", ["latest", "v1", "1.2", "v1.2.3+build", "v1.2.3\nx"])
def test_a_tag_is_a_version(wrong: str) -> None:
    """What is no version of a release is refused before anything is looked at."""
    done = _release("check", wrong)
    assert done.returncode == 1
    assert "is no version" in done.stderr


def test_notes_are_a_section_of_the_changelog() -> None:
    """The page of a release has what the changelog says of that version and nothing of another one."""
    done = _release("notes", "v0.1.0")
    assert done.returncode == 0
    assert "The first release" in done.stdout
    assert "##" not in done.stdout
    assert _release("notes", "v99.0.0").returncode == 1


def test_a_release_waits_for_the_tests() -> None:
    """Every job that may write anywhere comes behind the check of the version and all tests; no other may."""
    jobs = _jobs(ROOT / ".github" / "workflows" / "release.yaml")

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(before(need) for need in direct))

    writers = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writers == {"build", "publish", "announce"}
    for name in writers:
        assert {"version", "test"} <= before(name), name
        assert "if" not in jobs[name]
    assert jobs["test"]["uses"] == "./.github/workflows/ci.yaml"


def test_what_a_release_is_made_of_was_merged_and_is_new() -> None:
    """The first job refuses a tag of a commit that is not on the default branch, and one that is released already."""
    script = "\n".join(step.get("run", "") for step in _jobs(WORKFLOWS[-1])["version"]["steps"])
    assert "releases/tags/$GITHUB_REF_NAME" in script
    assert "compare/$BRANCH...$GITHUB_SHA" in script


def test_checks_on_github_can_pass() -> None:
    """A machine of GitHub's has an API server and a Node that is new enough, and leaves out what needs a node or
    ../shared."""
    (check,) = _jobs(WORKFLOWS[0]).values()
    (last,) = (step for step in check["steps"] if ".ci/run" in step.get("run", ""))
    assert last["env"] == {"CAPSTAN_TEST_LACKING": "skip"}
    script = "".join(step.get("run", "") for step in check["steps"])
    assert "KUBEBUILDER_ASSETS=" in script
    assert 'node/bin" >>"$GITHUB_PATH"' in script


@pytest.mark.parametrize(
    ("environ", "raised"),
    [
        ({}, pytest.skip.Exception),
        ({"CI": "true"}, pytest.fail.Exception),
        ({"CI": "true", "CAPSTAN_TEST_LACKING": "skip"}, pytest.skip.Exception),
    ],
)
def test_what_is_lacking(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], raised: type[BaseException]) -> None:
    """A test that lacks something is left out; in CI it fails, unless that CI is known not to have everything."""
    for name in ("CI", "CAPSTAN_TEST_LACKING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(raised, match="a thing"):
        lacking("a thing")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_few_rights(path: Path) -> None:
    """A workflow has no rights, each job names its own, and none keeps the token that it has checked out with."""
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"], name
        assert not set(job["permissions"].values()) - {"read", "write"}
        for step in job.get("steps", []):
            if str(step.get("uses", "")).startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned(path: Path) -> None:
    """An action of others is a commit, with its version behind it; images of workflows have a version."""
    lines = [line.strip().removeprefix("- ") for line in path.read_text().splitlines()]
    used = [line.removeprefix("uses: ") for line in lines if line.startswith("uses: ")]
    assert used
    for action in used:
        if action.startswith("./"):
            continue
        name, _, version = action.partition(" # ")
        assert PINNED.match(name), action
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version), action
    for job in _jobs(path).values():
        assert not FLOATING.search(str(job.get("container", "")))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_scripts_of_workflows_take_no_text_of_others(path: Path) -> None:
    """What a person can name, such as a branch, reaches a script by its environment and never as a part of it."""
    for job in _jobs(path).values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")


def test_no_image_floats() -> None:
    """No Dockerfile, example or script names an image by a tag that moves."""
    found = []
    for path in [*ROOT.glob("*/Dockerfile"), *ROOT.glob("tests/e2e/*/Dockerfile")]:
        found += re.findall(r"^(?:ARG BASE=|FROM )([^\s$]+)", path.read_text(), re.MULTILINE)
    for path in ROOT.glob("examples/**/*.yaml"):
        found += re.findall(r"^\s*(?:- )?image: [\"']?([^\s\"'{]+)", path.read_text(), re.MULTILINE)
    stages = {"dependencies", "code"}
    assert len(found) > 5
    assert [image for image in found if image not in stages and not re.search(r"[:@].*\d", image)] == []
    assert [image for image in found if FLOATING.search(image)] == []
