"""The frame of `capstan eval`."""

import subprocess
import sys

import pytest

from capstan_operator.cli.eval import SUBCOMMANDS
from capstan_operator.cli.main import main


@pytest.mark.parametrize("name", list(SUBCOMMANDS))
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every subcommand is there and explains its arguments."""
    with pytest.raises(SystemExit) as caught:
        main(["eval", name, "--help"])
    assert caught.value.code == 0
    assert f"usage: capstan eval {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["eval"], ["eval", "nonsense"], ["eval", "baseline"]])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It is told apart from everything else by its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: capstan eval" in capsys.readouterr().err


def test_help_loads_no_subcommand() -> None:
    """Only the subcommand that was asked for is loaded, and none for help."""
    code = (
        "import sys\nfrom capstan_operator.cli.main import main\n"
        "try:\n    main(['eval', '--help'])\n"
        "except SystemExit:\n    print(sorted(m for m in sys.modules if m.startswith(('capstan_evaluation', 'scipy'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("[]\n")


def test_it_says_which_extra_it_needs() -> None:
    """Without its packages it names what to install, without a traceback."""
    code = (
        "import importlib.util, sys\nfound = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'scipy' else found(name, *more)\n"
        "from capstan_operator.cli.main import main\nmain(['eval', 'baseline', 'list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "needs scipy: pip install '.[evaluation]' in a clone" in done.stderr
    assert "Traceback" not in done.stderr
