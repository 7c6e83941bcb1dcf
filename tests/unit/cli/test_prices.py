"""`capstan prices import`: what it says, what it writes, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan_contract.config import Price
from capstan_operator.cli.main import main
from capstan_operator.desired.prices import read_table

GOOD = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
TABLE = {"gpt": GOOD, "free": {**GOOD, "input_cost_per_token": 0}, "sample_spec": {}, "dalle": {"mode": "images"}}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Give a small table."""
    path = tmp_path / "table.json"
    path.write_text(json.dumps(TABLE))
    return path


def test_a_table_is_written_as_a_manifest(table: Path, tmp_path: Path, capsys: Any) -> None:
    """It is what the operator reads, in the namespace that was named; every entry is counted."""
    target = tmp_path / "prices.yaml"
    assert main(["prices", "import", str(table), "-n", "home", "-o", str(target)]) == 0
    manifest = yaml.safe_load(target.read_text())
    assert (manifest["metadata"]["namespace"], manifest["metadata"]["name"]) == ("home", "capstan-prices")
    assert read_table([manifest]).prices == {"openai": {"gpt": Price(inputPerMillion=1, outputPerMillion=2)}}
    said = capsys.readouterr().err
    assert said.startswith("4 entries: 1 read, which are 1 prices of 1 providers; 3 left out:\n")
    assert "      1 it has no price per token, or one of zero\n" in said


def test_every_entry_that_is_left_out_can_be_named(table: Path, capsys: Any) -> None:
    """With -v, each with its reason; with -o - the manifest is printed."""
    assert main(["prices", "import", str(table), "-v", "-o", "-"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["kind"] == "ConfigMap"
    assert "  dalle: its mode is none that is served: images\n" in printed.err
    assert "  free: it has no price per token, or one of zero\n" in printed.err


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not JSON"), ("[]", "must be an object of models"), ('{"a":{}}', "none of its 1 entries has a price")],
)
def test_what_holds_no_prices_is_refused(tmp_path: Path, capsys: Any, text: str, said: str) -> None:
    """By the name of the file, and nothing is written: a table of nothing would take all prices away."""
    path = tmp_path / "table.json"
    path.write_text(text)
    target = tmp_path / "out.yaml"
    assert main(["prices", "import", str(path), "-o", str(target)]) == 1
    assert f"error: {path}: {said}" in capsys.readouterr().err
    assert not target.exists()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: Any) -> None:
    """It is one line, not a traceback."""
    assert main(["prices", "import", str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
