"""Which images Kubernetes objects run, and where others publish theirs. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.api.llmmodel import EngineType
from capstan_operator.desired.image_names import split_image
from capstan_operator.desired.profiles import KnownProfile
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import OWN_IMAGES, BuildSettings

_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_DEFAULTS: Final = BuildSettings()
REDIS: Final = "docker.io/library/redis"
PUBLISHED: Final = tuple(
    split_image(image).repository
    for image in (REDIS, _DEFAULTS.vllm_image, _DEFAULTS.tgi_image, _DEFAULTS.sglang_image)
)
"""Repositories of the images of others that an install may need; in a registry of one's own they keep their path."""
ENGINE_IMAGES: Final = ("CAPSTAN_TGI_IMAGE", "CAPSTAN_SGLANG_IMAGE")
"""What the operator is told of images that it runs only where a model asks for them."""


@dataclass(frozen=True, order=True)
class Image:
    """An image and who runs it."""

    name: str
    used_by: tuple[str, ...]
    """`Kind namespace/name`, sorted; `models` for what models run where they say nothing else, `profile NAME` for what
    those run that name a profile."""

    @property
    def source(self) -> str | None:
        """Where its maker publishes it; None for Capstan's own images, and where nobody can know."""
        repository, tag, digest = split_image(self.name)
        version = f"@{digest}" if digest else f":{tag}" if tag else ""
        for published in PUBLISHED:
            path = published.partition("/")[2]
            if repository == path or repository.endswith(f"/{path}"):
                return f"{published}{version}"
        return None


def collect_images(
    objects: Iterable[Manifest], *, engines: bool, profiles: Iterable[KnownProfile] = ()
) -> tuple[Image, ...]:
    """Give the images that pods of these objects run, those that an operator among them is told of, and those of
    profiles, by name.

    `engines` says whether that includes images of engines which no manifest asks for. Those that a volume brings count.
    """
    found: dict[str, set[str]] = {}
    for known in profiles:
        for type_ in EngineType:
            engine = known.profile.engines.of(type_) if known.profile else None
            if engine is not None and engine.image is not None:
                found.setdefault(engine.image, set()).add(f"profile {known.name}")
    for manifest in objects:
        for name, user in _of_object(manifest, engines=engines):
            found.setdefault(name, set()).add(user)
    return tuple(sorted(Image(name, tuple(sorted(users))) for name, users in found.items()))


def told_variables(objects: Iterable[Manifest]) -> dict[str, str]:
    """Give the variables of the operator among these objects, in so far as they are texts; none where there is none."""
    for manifest in objects:
        for container in _containers_in(manifest):
            told = _variables(container)
            if OWN_IMAGES[0] in told:
                return told
    return {}


def _of_object(manifest: Manifest, *, engines: bool) -> Iterator[tuple[str, str]]:
    metadata = manifest.get("metadata") or {}
    place = "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
    user = f"{manifest.get('kind')} {place}"
    for container in _containers_in(manifest):
        if isinstance(container.get("image"), str):
            yield container["image"], user
        told = _variables(container)
        if OWN_IMAGES[0] in told:
            for variable in (*OWN_IMAGES, *(ENGINE_IMAGES if engines else ())):
                if told.get(variable):
                    yield told[variable], "models"
    for volume in _lists_in(manifest, ("volumes",)):
        source = volume.get("image")
        if isinstance(source, Mapping) and isinstance(source.get("reference"), str):
            yield source["reference"], user


def _containers_in(manifest: object) -> Iterator[Mapping[str, Any]]:
    return _lists_in(manifest, _CONTAINERS)


def _lists_in(value: object, names: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Give the items of all lists of these names, wherever they are: kinds of others have pod templates, too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in names and isinstance(item, list):
                yield from (one for one in item if isinstance(one, Mapping))
            yield from _lists_in(item, names)
    elif isinstance(value, list):
        for item in value:
            yield from _lists_in(item, names)


def _variables(container: Mapping[str, Any]) -> dict[str, str]:
    variables = container.get("env")
    if not isinstance(variables, list):
        return {}
    return {
        item["name"]: item["value"]
        for item in variables
        if isinstance(item, Mapping) and isinstance(item.get("name"), str) and isinstance(item.get("value"), str)
    }
