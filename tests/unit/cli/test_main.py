"""The command line's frame."""

import subprocess
import sys

import pytest

from capstan_operator.cli.main import COMMANDS, main


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


def test_validate_needs_no_client() -> None:
    """Only the command that was asked for is loaded: validate starts without kopf and the Kubernetes client."""
    code = (
        "import sys; from capstan_operator.cli.main import main; main(['validate', '-q', 'missing']);"
        "print(sorted(sys.modules.keys() & {'kopf', 'kubernetes', 'aiohttp', 'asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
