"""The release before this one: its chart, and its images made from its commit."""

import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from support.cluster import PYTHON_BASE, Cluster
from support.jobs import wait_for_job
from support.needs import ROOT, lacking

COMMIT = "c73d38c"
TAG = "previous"
PARTS = ("operator", "gateway", "worker")


def unpack(folder: Path) -> Path:
    """Write the tree of the previous release into `folder`, and give it."""
    git = shutil.which("git")
    if git is None:
        lacking("git, for the previous release")
    done = subprocess.run([str(git), "-C", str(ROOT), "archive", COMMIT], capture_output=True, check=False)
    if done.returncode:
        lacking(f"the commit {COMMIT} in the repository's history (not a shallow clone)")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def build_images(cluster: Cluster, tree: Path) -> None:
    """Build the previous release's images and load them into the node, unless a job has done that."""
    if wait_for_job("previous"):
        return
    for part in PARTS:
        dockerfile = tree / part / "Dockerfile"
        cluster.nodes.build(f"docker.io/capstan/{part}:{TAG}", dockerfile, {"BASE": PYTHON_BASE}, tree=tree)
