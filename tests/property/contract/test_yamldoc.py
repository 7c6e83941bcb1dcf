"""YAML documents and lines, for any JSON."""

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.yamldoc import YamlFault, json_as_yaml, read_yaml

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff"), max_size=12
)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@given(st.lists(st.dictionaries(TEXT, JSON), min_size=1, max_size=3))
def test_reads_back_what_was_written(documents: list[dict[str, Any]]) -> None:
    """What a YAML writer wrote, in block or flow style, is read back as it was."""
    for style in (False, True):
        text = yaml.safe_dump_all(documents, allow_unicode=True, default_flow_style=style)
        assert [document.data for document in read_yaml(text)] == documents


@given(
    st.dictionaries(TEXT | st.sampled_from(["\\", "\\\\ud83d\\ude00", "\U0001f600"]), JSON),
    st.sampled_from([None, "\t", 2]),
)
def test_reads_json(content: dict[str, Any], indent: str | int | None) -> None:
    """JSON is YAML, once tabs and characters in two halves are rewritten."""
    for ascii_only in (True, False):
        (document,) = read_yaml(json_as_yaml(json.dumps(content, indent=indent, ensure_ascii=ascii_only)))
        assert document.data == content


@given(st.text("ab:-[]{},&*!|>'\"#%@ \n\t?<1.", max_size=60))
def test_never_raises_anything_else(text: str) -> None:
    """Text is YAML or it is a YamlFault with a line of that text."""
    try:
        for document in read_yaml(text):
            json.dumps(document.data, allow_nan=False)
    except YamlFault as fault:
        line = fault.line
    else:
        line = 1
    assert 1 <= line <= text.count("\n") + 2
