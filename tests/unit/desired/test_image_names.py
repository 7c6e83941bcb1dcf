"""Names of container images."""

import pytest

from capstan_operator.desired.image_names import ImageName, in_full, split_image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("redis", ("redis", "", "")),
        ("redis:7", ("redis", "7", "")),
        ("vllm/vllm-openai:v0.11.0", ("vllm/vllm-openai", "v0.11.0", "")),
        ("host:5000/vllm/vllm-openai", ("host:5000/vllm/vllm-openai", "", "")),
        (f"host:5000/x:1@{DIGEST}", ("host:5000/x", "1", DIGEST)),
        (f"host:5000/x@{DIGEST}", ("host:5000/x", "", DIGEST)),
        ("", ("", "", "")),
    ],
)
def test_an_image_has_a_repository_a_tag_and_a_digest(image: str, parts: tuple[str, str, str]) -> None:
    """A port of the registry is no tag, and a tag may stand before a digest."""
    assert split_image(image) == ImageName(*parts)


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("redis:7", "docker.io/library/redis:7"),
        ("vllm/vllm-openai", "docker.io/vllm/vllm-openai"),
        ("localhost/x:1", "localhost/x:1"),
        ("host:5000/x", "host:5000/x"),
        ("ghcr.io/x/y", "ghcr.io/x/y"),
    ],
)
def test_a_name_in_full_has_its_registry(image: str, full: str) -> None:
    """What names no registry is Docker's, and what is one word there is of its library."""
    assert in_full(image) == full
