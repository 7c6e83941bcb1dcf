"""Which release of an engine a manifest says."""

import pytest

from capstan_operator.api.llmmodel import Engine, EngineType
from capstan_operator.desired.releases import is_before, release_of


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("v0.8.5", (0, 8, 5)),
        ("0.6.3.post1", (0, 6, 3)),
        ("v0.11.0rc2", (0, 11, 0)),
        ("v0.5.6-cu129", (0, 5, 6)),
        ("3.3", (3, 3, 0)),
        ("v1", None),
        ("latest", None),
        ("nightly-0.8.5", None),
        ("0.9e3f1", None),
    ],
)
def test_a_tag_that_begins_with_numbers_is_a_release(version: str, release: tuple[int, ...] | None) -> None:
    """Two or three numbers, whatever is said behind them; nothing else is a release."""
    assert release_of(Engine(version=version)) == release


@pytest.mark.parametrize(
    ("type_", "image", "known"),
    [
        (EngineType.VLLM, "vllm/vllm-openai:v0.8.5", True),
        (EngineType.VLLM, "registry.example.com:5000/mirror/vllm/vllm-openai:v0.8.5@sha256:0123", True),
        (EngineType.VLLM, "lmcache/vllm-openai:v0.3.5", False),
        (EngineType.VLLM, "notvllm/vllm-openai:v0.3.5", False),
        (EngineType.VLLM, "vllm/vllm-openai@sha256:0123", False),
        (EngineType.VLLM, "lmsysorg/sglang:v0.5.6", False),
        (EngineType.SGLANG, "lmsysorg/sglang:v0.5.6", True),
        (EngineType.TGI, "ghcr.io/huggingface/text-generation-inference:3.3.6", True),
        (EngineType.OPENAI_COMPATIBLE, "vllm/vllm-openai:v0.8.5", False),
    ],
)
def test_the_tag_of_an_image_counts_where_the_project_gives_it(type_: EngineType, image: str, *, known: bool) -> None:
    """On whatever registry; of another image's tags nobody knows which release of the engine is in it."""
    assert (release_of(Engine(type=type_, image=image)) is not None) == known


def test_nothing_is_older_where_nothing_is_said() -> None:
    """The worker's own image is of this release of Capstan."""
    assert not is_before(Engine(), (99,))
    assert is_before(Engine(version="v0.8.5"), (0, 9))
    assert not is_before(Engine(version="v0.9"), (0, 9))
    assert is_before(Engine(version="v0.11.0"), (0, 11, 1))
