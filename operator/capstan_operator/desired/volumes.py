"""Where a pod finds the weights, and where it may write."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineFile, EngineType, LLMModelSpec
from capstan_operator.desired.naming import prefixes_name, weights_name
from capstan_operator.resources.resource import Manifest, ObjectKey
from capstan_operator.settings import BuildSettings

HOME: Final = "/var/cache/capstan"
"""Home of the engine's user: caches that may be lost with the pod."""
WEIGHTS: Final = "/var/lib/capstan/weights"
"""Downloaded weights: a claim, or in the pod."""
HF_HOME: Final = f"{WEIGHTS}/huggingface"
IMAGE_MOUNT: Final = "/mnt/model"
"""Content of an oci:// source."""
IMAGE_VOLUME: Final = "image"
CLAIMS_MOUNT: Final = "/mnt/claims"
"""Claims of pvc:// sources, each in a folder named like it."""
CA_FOLDER: Final = "/etc/capstan/ca"
"""The authorities that an engine believes in, where the install names some."""
CA_FILE: Final = "ca.crt"
CA_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Where OpenSSL and what follows it (Python, httpx, rustls), requests, curl and the clients of S3 look for them."""
FILES_VOLUME: Final = "engine-files"
CA_VOLUME: Final = "capstan-ca"
BUCKETS: Final = ("s3", "gs", "oss")
"""Schemes of sources that an engine streams from a bucket."""
PREFIXES_FOLDER: Final = "/etc/capstan/prefixes"
PREFIXES_FILE: Final = "prefixes.json"
PREFIXES_PATH: Final = f"{PREFIXES_FOLDER}/{PREFIXES_FILE}"


@dataclass(frozen=True)
class Source:
    """A parsed source: `hf://ORG/NAME` is scheme hf, rest ORG/NAME."""

    scheme: str
    rest: str

    @property
    def claim(self) -> str | None:
        """The claim of a pvc:// source."""
        return self.rest.split("/", 1)[0] if self.scheme == "pvc" else None

    @property
    def path(self) -> str:
        """What an engine is given to load: a path in the pod, a Hugging Face name, or the address of a bucket."""
        match self.scheme:
            case "pvc":
                return f"{CLAIMS_MOUNT}/{self.rest}".rstrip("/")
            case "oci":
                return IMAGE_MOUNT
            case "s3" | "gs":
                return f"{self.scheme}://{self.rest}"
            case "oss":
                # No engine knows the scheme; Alibaba's OSS is read through the API of S3.
                return f"s3://{self.rest}"
            case _:
                return self.rest


def parse_source(source: str) -> Source:
    """Take a source apart."""
    scheme, _, rest = source.partition("://")
    return Source(scheme, rest)


def loads_weights(spec: LLMModelSpec) -> bool:
    """Say whether the engine reads any weights. The simulator takes every source and reads none."""
    return spec.has_engine and spec.engine.type is not EngineType.SIMULATOR


def model_source(spec: LLMModelSpec) -> Source | None:
    """Give the parsed source of the weights that the engine loads."""
    return parse_source(spec.model.source) if spec.model.source and loads_weights(spec) else None


def source_claims(spec: LLMModelSpec) -> tuple[str, ...]:
    """Give the claims that pvc:// sources name, of the model, what guesses for it, and its adapters."""
    if not loads_weights(spec):
        return ()
    draft = spec.engine.speculative.model if spec.engine.speculative else None
    texts = [spec.model.source, draft, *(adapter.source for adapter in spec.adapters)]
    claims = {parse_source(text).claim for text in texts if text}
    return tuple(sorted(claim for claim in claims if claim))


def named_claims(model: Model) -> tuple[str, ...]:
    """Give the existing claims that a model needs: those of pvc:// sources and `cache.claimName`."""
    spec = model.spec
    if spec is None or not spec.has_engine:
        return ()
    cache = [spec.cache.claimName] if spec.cache and spec.cache.claimName else []
    return tuple(sorted({*source_claims(spec), *cache}))


def weights_claim(model: Model) -> str | None:
    """Give the claim that downloaded weights are kept in: an existing one, one that the operator makes, or none."""
    cache = model.spec.cache if model.spec else None
    if cache is None:
        return None
    return cache.claimName or (weights_name(model.key.name) if cache.size else None)


def exclusive_claim(model: Model, claims: Mapping[ObjectKey, Manifest]) -> str | None:
    """Give a claim of the pods that only one node at a time can attach. `claims`: existing ones that are named."""
    cache = model.spec.cache if model.spec else None
    if cache and cache.size and not cache.claimName and cache.accessMode == "ReadWriteOnce":
        return weights_claim(model)
    for name in named_claims(model):
        claim = claims.get(ObjectKey(model.key.namespace, name))
        modes = ((claim or {}).get("spec") or {}).get("accessModes") or ()
        if modes and not {"ReadWriteMany", "ReadOnlyMany"}.intersection(modes):
            return name
    return None


def prefixes_json(spec: LLMModelSpec) -> str:
    """Give the file with the prefixes that the worker warms up."""
    prefixes = [{"name": name, "system": text} for name, text in spec.prompts.items()]
    return json.dumps(prefixes, ensure_ascii=False, separators=(",", ":"))


def pod_volumes(model: Model, spec: LLMModelSpec, settings: BuildSettings) -> list[dict[str, Any]]:
    """Give the volumes of a pod."""
    claim = weights_claim(model)
    weights: dict[str, Any] = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "home", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(spec)}},
        {"name": "weights", **weights},
    ]
    source = model_source(spec)
    if source and source.scheme == "oci":
        volumes.append({"name": IMAGE_VOLUME, "image": {"reference": source.rest, "pullPolicy": "IfNotPresent"}})
    for number, name in enumerate(source_claims(spec)):
        # NB: not readOnly here: one claim may be the source of this pod and the writable cache of it as well.
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": name}})
    if spec.prefixes:
        volumes.append({"name": "prefixes", "configMap": {"name": prefixes_name(model.key.name)}})
    if spec.engine.files:
        sources = [_file_source(number, file) for number, file in enumerate(spec.engine.files)]
        volumes.append({"name": FILES_VOLUME, "projected": {"sources": sources}})
    if has_authorities(settings):
        volumes.append({"name": CA_VOLUME, **_authorities(settings)})
    return volumes


def has_authorities(settings: BuildSettings) -> bool:
    """Say whether engines believe in authorities of the install, not in those of their image."""
    return bool(settings.ca_config_map or settings.ca_secret)


def _authorities(settings: BuildSettings) -> dict[str, Any]:
    items = [{"key": settings.ca_key, "path": CA_FILE}]
    if settings.ca_config_map:
        return {"configMap": {"name": settings.ca_config_map, "items": items}}
    return {"secret": {"secretName": settings.ca_secret, "items": items}}


def _file_source(number: int, file: EngineFile) -> dict[str, Any]:
    kind, reference = ("configMap", file.configMapKeyRef) if file.configMapKeyRef else ("secret", file.secretKeyRef)
    if reference is None:
        raise ValueError("a file of an engine must have a source")
    return {kind: {"name": reference.name, "items": [{"key": reference.key, "path": str(number)}]}}


def has_image_volume(deployment: Manifest) -> bool:
    """Say whether a live Deployment still has the image volume of an oci:// source.

    An API server without the feature ImageVolume (on by default from Kubernetes 1.35) drops it and says nothing.
    """
    volumes = deployment["spec"].get("template", {}).get("spec", {}).get("volumes") or ()
    return any(volume.get("name") == IMAGE_VOLUME and volume.get("image") for volume in volumes)


def engine_mounts(spec: LLMModelSpec, settings: BuildSettings) -> list[dict[str, Any]]:
    """Give the mounts of the container that loads the weights."""
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount point in the pod
        {"name": "home", "mountPath": HOME},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        {"name": "weights", "mountPath": WEIGHTS},
    ]
    source = model_source(spec)
    if source and source.scheme == "oci":
        mounts.append({"name": IMAGE_VOLUME, "mountPath": IMAGE_MOUNT, "readOnly": True})
    for number, claim in enumerate(source_claims(spec)):
        mounts.append({"name": f"claim-{number}", "mountPath": f"{CLAIMS_MOUNT}/{claim}", "readOnly": True})
    for number, file in enumerate(spec.engine.files):
        # NB: a file by itself, so that what the image has in its folder stays.
        mounts.append({"name": FILES_VOLUME, "mountPath": file.path, "subPath": str(number), "readOnly": True})
    return [*mounts, *authority_mounts(settings)]


def authority_mounts(settings: BuildSettings) -> list[dict[str, Any]]:
    """Give the mount of the authorities of the install."""
    return [{"name": CA_VOLUME, "mountPath": CA_FOLDER, "readOnly": True}] if has_authorities(settings) else []


def worker_mounts(spec: LLMModelSpec) -> list[dict[str, Any]]:
    """Give the mounts that only the worker needs, in whatever container it runs."""
    if not spec.prefixes:
        return []
    return [{"name": "prefixes", "mountPath": PREFIXES_FOLDER, "readOnly": True}]


def cache_environment() -> Mapping[str, str]:
    """Give the variables that send every cache to a writable volume and keep libraries from asking who the user is."""
    return {
        "HOME": HOME,
        "USER": "capstan",  # the user has no name in most images, and getpass.getuser() would fail
        "XDG_CACHE_HOME": f"{HOME}/.cache",
        "HF_HOME": HF_HOME,
        "TORCHINDUCTOR_CACHE_DIR": f"{HOME}/.cache/torchinductor",
        "TRITON_CACHE_DIR": f"{HOME}/.cache/triton",
    }


def authority_environment(settings: BuildSettings) -> dict[str, str]:
    """Give the variables by which an engine finds the authorities of the install."""
    return dict.fromkeys(CA_VARIABLES, f"{CA_FOLDER}/{CA_FILE}") if has_authorities(settings) else {}


def _shared_memory(spec: LLMModelSpec) -> str:
    resources, spread = spec.resources, spec.parallelism
    several = resources.gpus > 1 or (bool(resources.claims) and (spread.tensor or 1) * spread.pipeline > 1)
    return resources.sharedMemory or ("2Gi" if several else "256Mi")
