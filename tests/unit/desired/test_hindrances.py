"""What a cluster can hardly run as it is meant, what is hardly meant, and labels that are none."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.desired.faults import find_faults, find_hindrances
from support.plainmodels import make_model

SMALL = {"size": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"cache": SMALL, "replicas": 2}, "replicas"),
        ({"cache": SMALL, "scaling": {"min": 0, "max": 2}}, "scaling.max"),
        ({"cache": SMALL, "scaling": {"min": 0, "max": 1}}, None),
        ({"cache": SMALL, "replicas": 1}, None),
        ({"cache": {**SMALL, "accessMode": "ReadWriteMany"}, "replicas": 2}, None),
        ({"cache": {"claimName": "own"}, "replicas": 2}, None),
        ({"replicas": 2}, None),
        ({"replicas": -1}, None),
    ],
)
def test_several_replicas_cannot_share_a_claim_of_one_node(spec: dict[str, Any], field: str | None) -> None:
    """Only what the manifest itself says is judged: of a claim that is there already nothing is known."""
    message = (
        f"`spec.cache.accessMode` must be ReadWriteMany when `{field}` is greater than 1: one node at a time can attach"
        " a ReadWriteOnce claim"
    )
    assert [str(one) for one in find_hindrances(make_model(**spec))] == ([message] if field else [])


@pytest.mark.parametrize(
    ("labels", "is_fault"),
    [({"a": "b"}, False), ({"a": None}, False), ({"a": 1}, True), ({"a": "b", "c": ["d"]}, True), (["a"], True)],
)
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_metadata_of_a_template_is_text(field: str, labels: object, is_fault: bool) -> None:
    """Null takes one away; the API server would refuse anything else."""
    faults = find_faults(make_model(template={"metadata": {field: labels}}))
    assert (f"`spec.template.metadata.{field}` must be a map of strings" in map(str, faults)) is is_fault


def test_a_model_without_a_spec_is_faulty() -> None:
    """Whatever was said of it when it was read."""
    model = replace(make_model(), spec=None, faults=(), judged=None)
    assert [str(one) for one in find_faults(model)] == ["`spec` is missing"]


@pytest.mark.parametrize("part", ["metadata", "spec"])
def test_both_parts_of_a_template_are_looked_at(part: str) -> None:
    """A directive that is none is one in neither."""
    (fault,) = find_faults(make_model(template={part: {"$nothing": 1}}))
    assert fault.field == f"spec.template.{part}.$nothing"
