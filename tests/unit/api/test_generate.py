"""The generated CRD and reference: complete, bounded, and noticed when stale."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.crd import build_crd, root_schema
from capstan_operator.api.generate import generated_files, main
from capstan_operator.api.kinds import KINDS
from capstan_operator.api.parse import parse_resource
from capstan_operator.api.reference import build_reference
from support.needs import ROOT
from support.yamls import load

SCHEMAS = [root_schema(kind) for kind in KINDS]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of spec and status, with its path."""
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}".lstrip(".")
        if where.startswith(("spec", "status")):
            yield where, field
        yield from fields(field, where)
        if "items" in field:
            yield f"{where}[]", field["items"]
            yield from fields(field["items"], f"{where}[]")


FIELDS = [pair for schema in SCHEMAS for pair in fields(schema)]


def test_everything_is_bounded() -> None:
    """No string, list, map or number of a spec is without bounds: that is what CEL's cost limit is computed from."""
    for path, field in FIELDS:
        match field["type"]:
            case "string":
                assert "maxLength" in field or "enum" in field, path
            case "array":
                assert "maxItems" in field, path
            case "integer":
                assert "minimum" in field, path
                assert "maximum" in field or path.startswith("status"), path
            case "object":
                assert "properties" in field or "maxProperties" in field or free(path), path


def free(path: str) -> bool:
    """Whether a field is one of those that hold parts of a pod, or a JSON Schema, as they are."""
    return path.startswith(("spec.template.", "spec.resources.affinity.")) or path.endswith("[].jsonSchema")


def test_everything_is_described() -> None:
    """kubectl explain has something to say about every field, and never about two lines."""
    for path, field in FIELDS:
        if not path.endswith("[]") and not free(path):
            assert field.get("description"), path
            assert "\n" not in field["description"], path


def test_schema_is_structural() -> None:
    """Nothing is in the schema that a structural schema may not have."""
    for path, field in FIELDS:
        forbidden = {"$ref", "$defs", "anyOf", "title", "const", "propertyNames", "nullable"} & field.keys()
        assert not forbidden, path


def test_reference_has_every_field() -> None:
    """The page for people has a row for every field."""
    for kind in KINDS:
        page = build_reference(kind)
        for path, _ in fields(root_schema(kind)):
            assert "." not in path or path.endswith("[]") or f"| `{path}` |" in page


def test_every_rule_has_a_wrong_manifest() -> None:
    """For each rule that needs no old object there is a manifest in tests/contract/wrong that only it can refuse."""
    seen = set()
    for file in (ROOT / "tests" / "contract" / "wrong").glob("*.yaml"):
        content = load(file.read_text())
        kind = next(kind for kind in KINDS if kind.name == content["kind"])
        seen |= {(fault.field, fault.message) for fault in parse_resource(kind, content).faults}
    rules = [
        (f"{path}{rule.get('fieldPath', '')}", rule["message"])
        for path, field in FIELDS
        for rule in field.get("x-kubernetes-validations", ())
        if "oldSelf" not in rule["rule"] and not path.startswith("spec.adapters[]")
    ]
    assert len(rules) > 30
    missing = [rule for rule in rules if (rule[0].replace("[]", "[0]"), rule[1]) not in seen]
    assert missing == []


def test_stale_files_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check fails while a file is missing or different, writes nothing, and passes after a run."""
    arguments = ["--root", str(tmp_path)]
    assert main([*arguments, "--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    (tmp_path / "docs" / "llmmodel.md").write_text("edited by hand")
    assert main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("docs/llmmodel.md is stale")


def test_crd_reads_back() -> None:
    """The YAML that is written is the CRD that was built."""
    written = dict(generated_files())
    for kind in KINDS:
        assert load(written[f"crds/{kind.file}"]) == build_crd(kind)
