"""Weights in buckets: who streams them, and what it is told."""

from typing import Any

import pytest

from capstan_operator.desired.engine import build_engine
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.pod import build_plain_template
from capstan_operator.settings import BuildSettings
from support.plainmodels import make_model

OSS = {"source": "oss://models/llama"}
ENDPOINT = {"name": "AWS_ENDPOINT_URL", "value": "https://s3.oss-cn-hangzhou.aliyuncs.com"}
SECRET = {"name": "AWS_ENDPOINT_URL", "valueFrom": {"secretKeyRef": {"name": "oss", "key": "endpoint"}}}


def args(**spec: Any) -> tuple[str, ...]:
    """Give an engine's arguments."""
    model = make_model(**spec)
    assert model.spec
    return build_engine(model, model.spec, BuildSettings()).args


def container(**spec: Any) -> dict[str, Any]:
    """Give an engine's container, with the pod's annotations and volumes."""
    model = make_model(**spec)
    assert model.spec
    template = build_plain_template(model, model.spec, BuildSettings())
    (found,) = template["spec"]["containers"]
    return {**found, "annotations": template["metadata"]["annotations"], "volumes": template["spec"]["volumes"]}


@pytest.mark.parametrize("source", ["s3://models/llama", "gs://models/llama"])
def test_engines_are_given_the_address_of_the_bucket(source: str) -> None:
    """vLLM is told to stream; SGLang sees from the address that it has to."""
    own = {"version": "v0.32.0"}
    streamed = args(model={"source": source}, engine=own)
    assert streamed[0] == source
    assert streamed[streamed.index("--load-format") + 1] == "runai_streamer"
    found = args(model={"source": source}, engine={"type": "SGLang"})
    assert found[found.index("--model-path") + 1] == source
    assert "--load-format" not in found


@pytest.mark.parametrize(
    ("source", "sound"),
    [
        ("gs://models.example.com/llama", True),
        ("gs://models_of_us/llama", True),
        ("oss://models-of-us/llama", True),
        ("oss://models.example.com/llama", False),
        ("oss://models_of_us/llama", False),
    ],
)
def test_a_bucket_is_called_as_its_cloud_allows(source: str, *, sound: bool) -> None:
    """Google's may be a domain; of Alibaba's a host is made, so dots and underscores are none of its."""
    faults = find_faults(make_model(model={"source": source}, engine={"env": [ENDPOINT]}))
    assert [fault.field for fault in faults] == ([] if sound else ["spec.model.source"])


def test_oss_is_read_by_the_api_of_s3() -> None:
    """The engine gets an s3:// address, and a file by which AWS's libraries write the bucket into the host."""
    found = container(model=OSS, engine={"version": "v0.32.0", "env": [ENDPOINT]})
    assert found["args"][0] == "s3://models/llama"
    values = {variable["name"]: variable.get("value") for variable in found["env"]}
    (volume,) = [volume for volume in found["volumes"] if "downwardAPI" in volume]
    (item,) = volume["downwardAPI"]["items"]
    (mount,) = [mount for mount in found["volumeMounts"] if mount["name"] == volume["name"]]
    assert values["AWS_CONFIG_FILE"] == f"{mount['mountPath']}/{item['path']}"
    (key,) = found["annotations"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{key}']"
    assert "addressing_style = virtual" in found["annotations"][key]


def test_nothing_is_added_for_other_buckets() -> None:
    """Their pods are what they were."""
    found = container(model={"source": "s3://models/llama"}, engine={"version": "v0.32.0"})
    assert found["annotations"] == {}
    assert not [volume for volume in found["volumes"] if "downwardAPI" in volume]
    assert "AWS_CONFIG_FILE" not in [variable["name"] for variable in found["env"]]


def test_a_file_of_settings_of_the_user_wins() -> None:
    """As every variable of the user does."""
    own = {"name": "AWS_CONFIG_FILE", "value": "/own/config"}
    found = container(model=OSS, engine={"env": [ENDPOINT, own]})
    assert [one["value"] for one in found["env"] if one["name"] == "AWS_CONFIG_FILE"] == ["/own/config"]


def test_a_server_of_the_user_is_given_the_source_as_it_is() -> None:
    """It may know the scheme; and then it needs no endpoint of ours."""
    model = make_model(model=OSS, engine={"type": "OpenAICompatible", "image": "own:1"})
    assert model.spec
    assert build_engine(model, model.spec, BuildSettings()).env == {"CAPSTAN_MODEL_PATH": "oss://models/llama"}
    assert find_faults(model) == ()


@pytest.mark.parametrize(
    ("spec", "faulty"),
    [
        ({"engine": {"env": [ENDPOINT]}}, False),
        ({"engine": {"env": [SECRET]}}, False),
        ({"engine": {"type": "SGLang", "env": [ENDPOINT]}}, False),
        ({"engine": {"type": "Simulator"}}, False),
        ({}, True),
        ({"engine": {"env": [{"name": "AWS_REGION", "value": "x"}]}}, True),
        ({"engine": {"env": [{"name": "AWS_ENDPOINT_URL", "value": ""}]}}, True),
        ({"engine": {"envFrom": [{"secretRef": {"name": "oss"}}]}}, False),
        ({"engine": {"envFrom": [{"prefix": "AWS_", "secretRef": {"name": "oss"}}]}}, False),
        ({"engine": {"envFrom": [{"prefix": "HF_", "secretRef": {"name": "hub"}}]}}, True),
        ({"template": {"spec": {"containers": [{"name": "engine", "env": [ENDPOINT]}]}}}, False),
        (
            {
                "template": {
                    "spec": {
                        "containers": [{"name": "engine", "envFrom": [{"prefix": "AWS_", "secretRef": {"name": "s"}}]}]
                    }
                }
            },
            False,
        ),
        ({"template": {"spec": {"containers": [{"name": "engine", "tty": True}]}}}, True),
    ],
)
def test_oss_needs_an_endpoint(spec: dict[str, Any], *, faulty: bool) -> None:
    """Without one the engine would take a bucket of that name at Amazon, which may be anybody's."""
    faults = find_faults(make_model(model=OSS, **spec))
    assert [fault.field for fault in faults] == ["spec.engine.env"] * faulty


@pytest.mark.parametrize("scheme", ["s3", "gs", "oss"])
def test_who_reads_no_buckets_is_refused(scheme: str) -> None:
    """TGI, and adapters of every engine that reads them."""
    tgi = make_model(model={"source": f"{scheme}://models/llama"}, engine={"type": "TGI"})
    assert [fault.field for fault in find_faults(tgi)] == ["spec.model.source"]
    adapters = [{"name": "x", "source": f"{scheme}://models/x"}]
    for type_ in ("vLLM", "SGLang", "TGI"):
        faults = find_faults(make_model(engine={"type": type_}, adapters=adapters))
        assert [fault.field for fault in faults] == ["spec.adapters[0].source"]
    assert find_faults(make_model(engine={"type": "Simulator"}, adapters=adapters)) == ()


@pytest.mark.parametrize(
    ("engine", "faulty"),
    [
        ({}, False),
        ({"version": "v0.11.1"}, False),
        ({"version": "v0.11.0"}, True),
        ({"image": "vllm/vllm-openai:v0.10.2"}, True),
        ({"image": "own:v0.10.2"}, False),
        ({"type": "SGLang", "version": "v0.5.8"}, True),
        ({"type": "SGLang", "version": "v0.5.9"}, False),
    ],
)
def test_a_release_that_cannot_read_google_is_refused(engine: dict[str, Any], *, faulty: bool) -> None:
    """It would take the address for the name of a model."""
    faults = find_faults(make_model(model={"source": "gs://models/llama"}, engine=engine))
    assert [fault.field for fault in faults] == ["spec.model.source"] * faulty
