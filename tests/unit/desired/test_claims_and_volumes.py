"""Where weights are kept: the claim made for them, the volumes of a pod, and what the warm prefixes look like."""

from typing import Any

import pytest

from capstan_operator.api.llmmodel import WeightsCache
from capstan_operator.desired.objects import build_claim
from capstan_operator.desired.volumes import (
    Source,
    exclusive_claim,
    has_image_volume,
    named_claims,
    parse_source,
    prefixes_json,
    weights_claim,
)
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import make_model


@pytest.mark.parametrize(
    ("size", "live", "asks"),
    [
        ("1Gi", None, "1Gi"),
        ("1Gi", "512Mi", "1Gi"),
        ("1Gi", "2Gi", "2Gi"),
        ("1Gi", "1024Mi", "1Gi"),
        ("1Gi", "odd", "1Gi"),
    ],
)
def test_a_claim_never_asks_for_less_than_it_has(size: str, live: str | None, asks: str) -> None:
    """The API server would refuse that; the same amount is said in the words of the spec."""
    storage = {} if live is None else {"storage": live}
    there = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "m-weights"},
        "spec": {"resources": {"requests": storage}},
    }
    claim = build_claim("m", WeightsCache(size=size), (there,))
    assert claim["spec"]["resources"]["requests"]["storage"] == asks
    assert build_claim("m", WeightsCache(size=size), ())["spec"]["resources"]["requests"]["storage"] == size


def test_prefixes_are_written_as_they_are() -> None:
    """By name and text, without escapes: people look at the file too."""
    model = make_model(prefixes=[{"name": "greeting", "system": "Grüß dich"}])
    assert model.spec
    assert prefixes_json(model.spec) == '[{"name":"greeting","system":"Grüß dich"}]'


@pytest.mark.parametrize(
    ("volumes", "has"),
    [
        ([{"name": "tmp"}, {"name": "image", "image": {"reference": "r"}}], True),
        ([{"name": "image"}, {"name": "other", "image": {"reference": "r"}}], False),
        ([], False),
        (None, False),
    ],
)
def test_an_image_volume_is_there_when_it_has_its_image(volumes: Any, has: bool) -> None:
    """An API server without the feature keeps the name and drops the image."""
    assert has_image_volume({"spec": {"template": {"spec": {"volumes": volumes}}}}) is has
    assert not has_image_volume({"spec": {"template": {}}})
    assert not has_image_volume({"spec": {}})


def test_a_source_is_parted_at_its_scheme() -> None:
    """Whatever comes after it."""
    assert parse_source("s3://bucket/a://b") == Source("s3", "bucket/a://b")


def test_a_faulty_model_needs_no_claim() -> None:
    """Nothing of its manifest is known."""
    faulty = make_model(replicas=-1)
    assert (named_claims(faulty), weights_claim(faulty), exclusive_claim(faulty, {})) == ((), None, None)


@pytest.mark.parametrize(
    ("modes", "exclusive"),
    [
        (["ReadWriteOnce"], True),
        (["ReadWriteOncePod"], True),
        (["ReadOnlyMany"], False),
        (["ReadWriteOnce", "ReadWriteMany"], False),
        ([], False),
        (None, False),
    ],
)
def test_a_claim_that_many_nodes_may_attach_is_not_exclusive(modes: list[str] | None, exclusive: bool) -> None:
    """By any of its modes; of one that says none nothing is known."""
    model = make_model(model={"source": "pvc://weights/llama"})
    claims = {ObjectKey("team", "weights"): {"spec": {"accessModes": modes}}}
    assert exclusive_claim(model, claims) == ("weights" if exclusive else None)
    assert exclusive_claim(model, {}) is None
