"""What a test needs of the machine, and what happens where that is missing.

On a user's machine a test that lacks something is skipped and says what was missing. In CI (`CI=true`) the same lack
is a failure, because there everything has to run, unless `CAPSTAN_TEST_LACKING=skip` says that this CI has not
everything.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT.parent / "shared" / "cluster" / "cluster"
"""The test cluster's script; absent on a user's machine."""
DATA = ROOT.parent / "shared" / "data"


def lacking(what: str) -> NoReturn:
    """Skip the running test because `what` is missing; in CI, fail it, unless that is known not to have everything."""
    if os.environ.get("CI") == "true" and os.environ.get("CAPSTAN_TEST_LACKING") != "skip":
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"left out: needs {what}")


def need_binary(name: str, package: str) -> str:
    """Give the path of an executable that the Debian package `package` brings."""
    path = shutil.which(name)
    if path is None:
        lacking(f"{name} (Debian package {package})")
    return str(path)


def need_data(folder: str) -> Path:
    """Give a folder of the public data sets."""
    path = DATA / folder
    if not path.exists():
        lacking(f"the data set {folder} (../shared/data)")
    return path
