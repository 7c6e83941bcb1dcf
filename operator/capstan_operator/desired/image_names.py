"""Names of container images, taken apart as https://github.com/distribution/reference does. Pure."""

from typing import NamedTuple


class ImageName(NamedTuple):
    """`registry.example.com:5000/vllm/vllm-openai:v0.11.0@sha256:...`, in its parts."""

    repository: str
    """With the registry, where one is named."""
    tag: str
    """Empty: none."""
    digest: str
    """With its algorithm; empty: none."""


def split_image(image: str) -> ImageName:
    """Take the name of an image apart. A colon before the last slash is a port of the registry."""
    name, _, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    own, _, tag = last.partition(":")
    return ImageName(f"{folder}{slash}{own}", tag, digest)


def in_full(image: str) -> str:
    """Give the name of an image with the registry that a container runtime puts before one that names none."""
    first, slash, _ = image.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"
