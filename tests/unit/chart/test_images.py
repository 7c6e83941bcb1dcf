"""Which images the chart runs, and where they come from."""

import re
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.settings import BuildSettings, load_settings
from support.helm import CHART, REGISTRY, pod_specs, render, try_render
from support.yamls import load

OWN = {part: f"mine.example.com/{part}" for part in ("operator", "gateway", "worker")}
NAMED: dict[str, Any] = {
    "image": {"registry": ""},
    "operator": {"image": {"repository": OWN["operator"]}},
    "gateway": {"image": {"repository": OWN["gateway"]}},
    "models": {"workerImage": {"repository": OWN["worker"]}},
}
"""Values that name the repository of each of Capstan's images, and no registry."""
REDIS = {"redis": {"enabled": True}}


def _images(values: dict[str, Any]) -> set[str]:
    """Every image that the chart's pods run, and that the operator is told."""
    pods = pod_specs(render(values))
    running = {item["image"] for pod in pods.values() for item in [*pod["containers"], *pod.get("initContainers", [])]}
    told = {
        item["value"]
        for pod in pods.values()
        for container in pod["containers"]
        for item in container.get("env", [])
        if re.fullmatch(r"CAPSTAN_\w+_IMAGE", item["name"])
    }
    return running | told


def test_where_images_are_has_to_be_said() -> None:
    """Without a registry, and a repository for one of Capstan's images, the chart says what to set and why."""
    for values in ({"image": {"registry": ""}}, {**NAMED, "gateway": {}}, {**NAMED, "models": {}}):
        done = try_render(values)
        assert done.returncode != 0
        assert "image.registry is needed" in done.stderr
        assert "operator.image, gateway.image and models.workerImage" in done.stderr


def test_the_example_for_argo_cd_names_a_registry() -> None:
    """The Application in helm/argocd installs as it is but for the registry's name, which it shows."""
    application = load((CHART.parent / "argocd" / "application-capstan.yaml").read_text())
    values = application["spec"]["source"]["helm"]["valuesObject"]
    assert all(image.startswith(values["image"]["registry"] + "/") for image in _images(values))


def test_every_image_follows_the_registry() -> None:
    """Everything that runs, and every image that the operator is told, comes from `image.registry`."""
    everything = {"scorer": {"enabled": True}, **REDIS}
    found = _images({"image": {"registry": "air.example.com:5000/mirror"}, **everything})
    assert found
    assert all(image.startswith("air.example.com:5000/mirror/") for image in found), found
    assert {image.removeprefix("air.example.com:5000/mirror/").split(":")[0] for image in found} == {
        *OWN,
        "library/redis",
        "vllm/vllm-openai",
        "huggingface/text-generation-inference",
        "lmsysorg/sglang",
    }


def test_images_of_others_come_from_their_makers_without_a_registry() -> None:
    """With a repository for each of Capstan's images no registry is needed, and the others come from where they are
    published: as the operator's own defaults say."""
    defaults = BuildSettings()
    found = _images({**NAMED, **REDIS})
    assert {defaults.vllm_image, defaults.tgi_image, defaults.sglang_image} <= found
    assert {image.split(":")[0] for image in found} >= {*OWN.values(), "docker.io/library/redis"}


def test_an_image_that_is_named_is_taken_as_it_is() -> None:
    """A repository or an image that values name is not moved to the registry."""
    named = {"vllmImage": "a/vllm", "tgiImage": "b/tgi:1", "sglangImage": "c/sglang@sha256:" + "0" * 64}
    redis = {"redis": {"enabled": True, "image": {"repository": "d/redis"}}}
    found = _images({**NAMED, "image": {"registry": REGISTRY}, "models": {**NAMED["models"], **named}, **redis})
    assert {*named.values(), OWN["worker"] + ":" + _release()} <= found
    assert "d/redis" in {image.split(":")[0] for image in found}


@pytest.mark.parametrize("wrong", ["https://registry.example.com", "registry.example.com/", "registry.example.com/A"])
def test_a_registry_is_a_name(wrong: str) -> None:
    """What could not stand before an image's name is refused."""
    done = try_render({"image": {"registry": wrong}})
    assert done.returncode != 0
    assert "at '/image/registry'" in done.stderr


def test_no_tag_floats() -> None:
    """Every image that the chart or the operator runs by default has a tag that names one release, or a digest."""
    settings = load_settings({})
    found = [*_images({**NAMED, **REDIS, "scorer": {"enabled": True}})]
    found += [settings.build.worker_image, settings.build.evaluation_image]
    found.remove(settings.build.vllm_image)  # a repository: the tag is `engine.version` of a model
    assert len(found) > 6
    assert [image for image in found if not _names_one_release(image)] == []


def test_values_say_which_images_are_the_defaults() -> None:
    """The comments of values.yaml name the versions that the chart runs."""
    values = (CHART / "values.yaml").read_text()
    defaults = BuildSettings()
    for image in (defaults.vllm_image, defaults.tgi_image, defaults.sglang_image):
        assert f"empty: {image.partition('/')[2]}, from image.registry" in values


def _release() -> str:
    return str(load((Path(CHART) / "Chart.yaml").read_text())["appVersion"])


def _names_one_release(image: str) -> bool:
    return re.search(r":v?\d+\.\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$", image) is not None
