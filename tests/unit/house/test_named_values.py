"""Pages name values of the chart and fields of LLMModels that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.needs import ROOT

Schema = dict[str, Any]
VALUES: Schema = json.loads((ROOT / "helm" / "capstan" / "values.schema.json").read_text())
MODEL: Schema = yaml.safe_load((ROOT / "crds" / "llmmodels.capstan.dev.yaml").read_text())["spec"]["versions"][0][
    "schema"
]["openAPIV3Schema"]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(path for path in (ROOT / "docs").glob("*.md") if path.name not in ("testing.md", "dependencies.md")),
        *(ROOT / "helm").rglob("*.txt"),
        *(ROOT / "helm" / "argocd").glob("*.yaml"),
    ]
)
"""But for those that speak of modules."""
ON_CLUSTERS = [ROOT / "docs" / f"{name}.md" for name in ("exposure", "gitops", "images", "platforms", "profiles")]
"""Where fields are written without `spec`, as in a manifest."""
NAME = r"((?:{roots})(?:\.[A-Za-z]\w*(?:\[[^\]]*\])?)+)"


def test_a_name_that_is_nowhere_is_found() -> None:
    """A value that was renamed, and one that never was, fail the tests below, in prose and in commands."""
    page = (
        "Set `models.securityContext` or `models.podSecurityContext.runAsUser: null`.\n    helm x --set gateway.nope=1"
    )
    assert [name for name in _named(page, VALUES) if not _has(VALUES, name)] == [
        "models.securityContext",
        "gateway.nope",
    ]
    page = "`resources.gpus` and `resources.gpu`, `spec.pods.labels`"
    assert [name for name in _named(page, _fields()) if not _has(_fields(), name)] == ["resources.gpu"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_values_that_pages_name(path: Path) -> None:
    """Each value of the chart that a page names is in its schema (or is a field of that name)."""
    named = _named(path.read_text(), VALUES)
    assert [name for name in named if not _has(VALUES, name) and not _has(_fields(), name)] == []


@pytest.mark.parametrize("path", ON_CLUSTERS, ids=lambda path: path.name)
def test_fields_that_pages_name(path: Path) -> None:
    """Each field of an LLMModel that a page on platforms names is in the CRD (or is a value or a key of a profile)."""
    named = _named(path.read_text(), _fields())
    assert [name for name in named if not _has(_fields(), name) and not _has(VALUES, name)] == []


def _fields() -> Schema:
    spec = MODEL["properties"]["spec"]
    return {"properties": {"spec": spec, **spec["properties"]}}


def _named(page: str, schema: Schema) -> Iterator[str]:
    """Names in backticks and of `--set`, as far as they begin with a key of the schema."""
    name = NAME.format(roots="|".join(schema["properties"]))
    for match in re.finditer(rf"(?:`|--set '?|,){name}(?=[`=:,' ])", page):
        before = page[: match.start()].rpartition("\n")[2]
        if match[0].startswith(",") and "--set" not in before:
            continue
        yield match[1]


def _has(schema: Schema, name: str) -> bool:
    for part in re.sub(r"\[[^\]]*\]", "", name).split("."):
        while schema.get("type") == "array":
            schema = schema.get("items", {})
        if "properties" not in schema:
            return True  # a map, whose keys are the user's, or a part of a pod
        if part not in schema["properties"]:
            return False
        schema = schema["properties"][part]
    return True
