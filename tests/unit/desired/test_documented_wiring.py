from pathlib import Path

from capstan_operator.desired.engine_tables import TABLES

DOCS = Path(__file__).resolve().parents[3] / "docs" / "engines.md"


def test_everything_reserved_is_explained() -> None:
    """An option or variable that a fault may name is in the documentation."""
    text = DOCS.read_text()
    entries = [entry for table in TABLES.values() for entry in table.entries]
    names = {name for entry in entries for name in (*entry.flags, *entry.variables)}
    assert len(names) > 60
    assert sorted(name for name in names if f"`{name}`" not in text) == []
