"""A kind that is made up here goes through everything that works from the table of kinds, with one entry of its own."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, StringConstraints

from capstan_operator.api.crd import build_crd
from capstan_operator.api.kinds import LLMMODEL, Column, Kind
from capstan_operator.api.parse import parse_resource
from capstan_operator.api.reference import build_reference
from capstan_operator.api.schema import Part, Rule
from capstan_operator.cli.validate import summary
from capstan_operator.manifests.collect import Manifests, collect
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.judge import JUDGES, Judge, judge_resources
from capstan_operator.manifests.reading import parse_text
from capstan_operator.resources.resource import Fault, ObjectKey, Resource


class ShelfMetadata(Part):
    """What a shelf wants of its metadata."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Its name."""


class ShelfSpec(Part):
    """What a shelf is like."""

    depth: int = Field(default=3, ge=1, le=9)
    """How deep it is."""
    height: int | None = None
    """How high it is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.height) || self.height > self.depth",
            message="must be greater than `depth`",
            holds=lambda self: self.height is None or self.height > self.depth,
            field_path=".height",
        ),
    )


class ShelfStatus(Part):
    """How a shelf is."""

    books: int | None = None
    """Books on it."""


class Shelf(Part):
    """A shelf for books."""

    apiVersion: Literal["capstan.dev/v1alpha1"] = "capstan.dev/v1alpha1"
    """Version of this schema."""
    kind: Literal["Shelf"] = "Shelf"
    """Kind of the resource."""
    metadata: ShelfMetadata
    """Standard metadata of the object."""
    spec: ShelfSpec
    """What is wanted."""


SHELF: Kind[ShelfSpec] = Kind(
    root=Shelf,
    status=ShelfStatus,
    plural="shelves",
    noun="library",
    columns=(Column("Depth", ".spec.depth", "integer"),),
)
KINDS = (LLMMODEL, SHELF)

TEXT = """\
apiVersion: capstan.dev/v1alpha1
kind: Shelf
metadata: {name: a}
spec: SPEC
---
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: a}
spec:
  model: {source: "hf://org/name"}
"""


def read(spec: str, rest: str = "") -> Manifests:
    """Collect a shelf and a model of the same name, and what follows them."""
    documents, diagnostics = parse_text(TEXT.replace("SPEC", spec) + rest, file="a.yaml")
    assert diagnostics == []
    return collect(documents, kinds=KINDS)


def test_a_kind_is_parsed() -> None:
    """Its spec is of its own class, with its defaults."""
    found = parse_resource(SHELF, {"metadata": {"name": "a"}, "spec": {"height": 5}})
    assert found.spec == ShelfSpec(height=5)
    assert found.key == ObjectKey("default", "a")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"depth": 10}, "`spec.depth` must be at most 9"),
        ({"height": 2}, "`spec.height` must be greater than `depth`"),
        ({"deepth": 2}, "`spec.deepth` is not a field; did you mean depth?"),
    ],
)
def test_its_faults_are_told_as_those_of_every_kind(spec: dict[str, int], fault: str) -> None:
    """Bounds, rules and unknown fields are told with path and sentence."""
    found = parse_resource(SHELF, {"metadata": {"name": "a"}, "spec": spec})
    assert [str(one) for one in found.faults] == [fault]


def test_its_crd_and_reference_are_generated() -> None:
    """Names, rules, columns and fields are its own, and nothing of an LLMModel is in them."""
    crd = build_crd(SHELF)
    assert crd["metadata"]["name"] == "shelves.capstan.dev"
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    assert schema["properties"]["spec"]["properties"]["depth"]["default"] == 3
    rules = schema["properties"]["spec"]["x-kubernetes-validations"]
    assert [rule["message"] for rule in rules] == ["must be greater than `depth`"]
    assert "x-kubernetes-validations" not in schema
    assert version["subresources"] == {"status": {}}
    page = build_reference(SHELF)
    assert "| `spec.depth` | integer | `3` |" in page
    assert "LLMModel" not in page


def test_kinds_do_not_get_in_each_others_way() -> None:
    """A shelf and a model of one name are two resources, each in the view of its kind."""
    found = read("{}")
    assert found.diagnostics == ()
    assert list(found.of_kind(SHELF)) == list(found.models) == [ObjectKey("default", "a")]
    assert found.origin(SHELF, ObjectKey("default", "a")).line == 1
    assert found.origin(LLMMODEL, ObjectKey("default", "a")).line == 6
    assert summary(found, 0, 0, kinds=KINDS) == "1 model, 1 library, 0 errors, 0 warnings"


def test_a_second_one_of_its_name_is_told() -> None:
    """Of two shelves of one name the second is a fault, and the first counts."""
    again = "---\napiVersion: capstan.dev/v1alpha1\nkind: Shelf\nmetadata: {name: a}\nspec: {depth: 4}\n"
    found = read("{}", again)
    assert [diagnostic.message for diagnostic in found.diagnostics] == ["is there twice; the first is in a.yaml:1"]
    assert [shelf.spec for shelf in found.of_kind(SHELF).values()] == [ShelfSpec()]


def test_a_faulty_one_stays_known() -> None:
    """A shelf with a fault is there without a spec, and its fault has the line."""
    found = read("{depth: 99}")
    assert [(one.line, one.field) for one in found.diagnostics] == [(4, "spec.depth")]
    assert [shelf.spec for shelf in found.of_kind(SHELF).values()] == [None]


def test_its_judge_is_asked() -> None:
    """What is wrong beyond the schema comes from the judge in the table; without one there is nothing to say."""

    def too_deep(shelf: Resource[ShelfSpec]) -> tuple[Fault, ...]:
        return (Fault("spec.depth", "is too deep"),) if shelf.spec and shelf.spec.depth > 5 else ()

    found = read("{depth: 6}")
    assert list(judge_resources(found)) == []
    judged = list(judge_resources(found, {**JUDGES, "Shelf": Judge(too_deep)}))
    assert [(one.severity, one.resource, one.message) for one in judged] == [
        (Severity.ERROR, "Shelf default/a", "is too deep")
    ]
    assert list(judge_resources(read("{depth: 99}"), {"Shelf": Judge(too_deep)})) == []


def test_a_slip_in_its_kind_or_version_is_told() -> None:
    """The kinds that a message allows are those of the table; an almost right apiVersion is no object of others."""
    text = "apiVersion: VERSION\nkind: KIND\nmetadata: {name: a}\nspec: {}\n"

    def said(version: str, kind: str) -> list[str]:
        documents, _ = parse_text(text.replace("VERSION", version).replace("KIND", kind), file="a.yaml")
        return [diagnostic.message for diagnostic in collect(documents, kinds=KINDS).diagnostics]

    assert said("capstan.dev/v1alpha1", "Shelve") == ["must be LLMModel or Shelf"]
    assert said("capstan.dev/v1alpha2", "Shelf") == ["must be capstan.dev/v1alpha1"]
    assert said("capstan/v1alpha1", "Shelf") == ["must be capstan.dev/v1alpha1"]
    assert said("example.com/v1", "Shelf") == ["is not a resource of Capstan; passed over"]
