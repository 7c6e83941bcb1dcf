"""Which images objects run, and where others publish theirs."""

import pytest

from capstan_operator.manifests.images import Image, collect_images
from capstan_operator.settings import OWN_IMAGES

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("air.example.com:5000/m/vllm/vllm-openai:v0.11.0", "docker.io/vllm/vllm-openai:v0.11.0"),
        (f"air.example.com/library/redis:7.4.11@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
        ("vllm/vllm-openai", "docker.io/vllm/vllm-openai"),
        ("air.example.com/myvllm/vllm-openai:v1", None),
        ("air.example.com/vllm/vllm-openai-fork:v1", None),
    ],
)
def test_where_a_copy_is_from(name: str, source: str | None) -> None:
    """A copy keeps the path of what it is a copy of, whole; of a tag and a digest the digest counts."""
    assert Image(name, ()).source == source


def test_all_containers_and_what_the_operator_is_told() -> None:
    """Containers of each sort count, wherever their list is, and no variable of the operator that is empty."""
    spec = {
        "initContainers": [{"image": "i:1"}],
        "ephemeralContainers": [{"image": "e:1"}],
        "containers": [{"image": "c:1", "env": [{"name": name, "value": ""} for name in OWN_IMAGES]}],
    }
    pod = {"kind": "Pod", "metadata": {"name": "a", "namespace": "n"}, "spec": spec}
    assert [(image.name, image.used_by) for image in collect_images([pod], engines=True)] == [
        ("c:1", ("Pod n/a",)),
        ("e:1", ("Pod n/a",)),
        ("i:1", ("Pod n/a",)),
    ]
