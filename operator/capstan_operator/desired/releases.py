"""Which release of an engine a manifest says, as far as it says one. Pure.

A tag is a release where it is one of the engine's own image: `engine.version`, or `engine.image` of the repository that
the engine's project publishes, on whatever registry. Of other images, and of tags such as `latest`, nothing is known.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from capstan_operator.api.llmmodel import Engine, EngineType
from capstan_operator.desired.image_names import split_image

Release = tuple[int, ...]

REPOSITORIES: Final[Mapping[EngineType, str]] = MappingProxyType(
    {
        EngineType.VLLM: "vllm/vllm-openai",
        EngineType.SGLANG: "lmsysorg/sglang",
        EngineType.TGI: "huggingface/text-generation-inference",
    }
)
"""Images whose tags are releases of the engine. LMCache's vllm-openai, for one, is tagged with releases of LMCache."""
_RELEASE: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?=$|[-+._]|rc|post|dev)")


def release_of(engine: Engine) -> Release | None:
    """Give the release that the manifest says; None when it says none."""
    found = _RELEASE.match(_tag_of(engine))
    return tuple(int(number or 0) for number in found.groups()) if found else None


def is_before(engine: Engine, first: Release) -> bool:
    """Whether the manifest says a release that is older than this one."""
    release = release_of(engine)
    return release is not None and release < first


def _tag_of(engine: Engine) -> str:
    if engine.version is not None:
        return engine.version
    repository, tag, _ = split_image(engine.image or "")
    own = REPOSITORIES.get(engine.type)
    is_own = own is not None and (repository == own or repository.endswith(f"/{own}"))
    return tag if is_own else ""
