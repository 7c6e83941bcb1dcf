"""Weights that an engine streams from a bucket: what it must be told to find them, and what nobody else may say. Pure.

S3 and Google Cloud Storage are known to vLLM and SGLang themselves (Run:ai's model streamer). Alibaba's OSS is read
through the API of S3 that it has, under an endpoint which the manifest says: without one the engine would look for a
bucket of this name at Amazon, where it may be anybody's. OSS answers only where the bucket is a part of the host
(https://www.alibabacloud.com/help/en/oss/developer-reference/use-amazon-s3-sdks-to-access-oss); the streamer's native
part does so by itself, and botocore, with which it lists the files, only by a file of settings. That file comes from an
annotation of the pod.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from capstan_contract.names import GROUP
from capstan_operator.api.llmmodel import EngineType, LLMModelSpec
from capstan_operator.desired.arguments import Environment
from capstan_operator.desired.releases import Release, is_before
from capstan_operator.desired.volumes import BUCKETS, model_source, parse_source
from capstan_operator.resources.resource import Fault

FIRST_GOOGLE: Final[Mapping[EngineType, Release]] = MappingProxyType(
    {EngineType.VLLM: (0, 11, 1), EngineType.SGLANG: (0, 5, 9)}
)
"""No release before these reads gs://: docs.cloud.google.com/kubernetes-engine (Run:ai Model Streamer) says it of vLLM,
and of SGLang it follows from when sgl-project/sglang#17948 was written."""
ENDPOINT: Final = "AWS_ENDPOINT_URL"
SETTINGS_ANNOTATION: Final = f"{GROUP}/aws-config"
_SETTINGS: Final = "[default]\ns3 =\n  addressing_style = virtual\n"
_FOLDER: Final = "/etc/capstan/aws"
_FILE: Final = "config"
_VOLUME: Final = "aws-config"
_STREAMERS: Final = (EngineType.VLLM, EngineType.SGLANG)
_ENGINES: Final = (*_STREAMERS, EngineType.SIMULATOR, EngineType.OPENAI_COMPATIBLE)


def bucket_annotations(spec: LLMModelSpec) -> dict[str, str]:
    """Give the annotations of the pod."""
    return {SETTINGS_ANNOTATION: _SETTINGS} if _is_oss(spec) else {}


def bucket_environment(spec: LLMModelSpec) -> dict[str, str]:
    """Give the variables of the container that loads the weights."""
    # NB: without the second one AWS's libraries ask an address for the region that answers on Amazon's machines only.
    return {"AWS_CONFIG_FILE": f"{_FOLDER}/{_FILE}", "AWS_EC2_METADATA_DISABLED": "true"} if _is_oss(spec) else {}


def bucket_volumes(spec: LLMModelSpec) -> list[dict[str, Any]]:
    """Give the volumes of the pod."""
    if not _is_oss(spec):
        return []
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{SETTINGS_ANNOTATION}']"}
    return [{"name": _VOLUME, "downwardAPI": {"items": [{"path": _FILE, "fieldRef": field}]}}]


def bucket_mounts(spec: LLMModelSpec) -> list[dict[str, Any]]:
    """Give the mounts of the container that loads the weights."""
    return [{"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True}] if _is_oss(spec) else []


def find_bucket_faults(spec: LLMModelSpec, environment: Environment, *, unseen: bool) -> Iterator[Fault]:
    """Give what is wrong with sources in buckets. `environment`: the engine's variables; `unseen`: whether
    something that nobody can look into may bring the one of the endpoint."""
    engine = spec.engine.type
    if _is_bucket(spec.model.source) and engine not in _ENGINES:
        yield Fault("spec.model.source", f"must be hf://, pvc:// or oci:// with engine {engine}")
    first = FIRST_GOOGLE.get(engine)
    if spec.model.source and parse_source(spec.model.source).scheme == "gs" and first and is_before(spec.engine, first):
        named = ".".join(map(str, first))
        yield Fault("spec.model.source", f"must not be gs:// before v{named} of {engine}, which cannot read it")
    for index, adapter in enumerate(spec.adapters):
        if _is_bucket(adapter.source) and engine is not EngineType.SIMULATOR:
            yield Fault(f"spec.adapters[{index}].source", f"must be hf:// or pvc:// with engine {engine}")
    # NB: an empty one is as none for AWS's libraries.
    if _is_oss(spec) and not unseen and dict(environment).get(ENDPOINT, "") == "":
        message = f"must have {ENDPOINT} when `spec.model.source` begins with oss://: that of the region"
        yield Fault("spec.engine.env", f"{message}, such as https://s3.oss-cn-hangzhou.aliyuncs.com")


def _is_bucket(source: str | None) -> bool:
    return source is not None and parse_source(source).scheme in BUCKETS


def _is_oss(spec: LLMModelSpec) -> bool:
    """Whether an engine that Capstan tells what to load reads the weights from OSS."""
    source = model_source(spec)
    return source is not None and source.scheme == "oss" and spec.engine.type in _STREAMERS
