"""Whose an object with our labels is."""

import pytest

from capstan_contract.names import API_VERSION, APPLIED_HASH_ANNOTATION
from capstan_operator.models.namesakes import is_another_models, is_child

OURS = {"apiVersion": API_VERSION, "kind": "LLMModel", "name": "one", "uid": "u1"}
FORMER = {**OURS, "uid": "u0"}
OTHERS = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "one", "uid": "u9"}


@pytest.mark.parametrize(
    ("owners", "applied", "child", "another"),
    [
        ([OURS], True, True, False),
        ([OURS], False, True, False),
        ([OTHERS, OURS], False, True, False),
        ([], True, True, False),
        ([], False, False, False),
        ([FORMER], True, False, True),
        ([OTHERS], True, False, False),
    ],
)
def test_whose_a_labelled_object_is(owners: list[dict[str, str]], applied: bool, child: bool, another: bool) -> None:
    """The model's own by its owner; an orphan only if the operator has applied it; never what has another owner."""
    annotations = {APPLIED_HASH_ANNOTATION: "0" * 16} if applied else {}
    manifest = {"metadata": {"name": "one-model", "ownerReferences": owners, "annotations": annotations}}
    assert is_child(manifest, "u1") is child
    assert is_another_models(manifest, "u1") is another
