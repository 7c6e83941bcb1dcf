"""The chart's value `profiles`, its schema, docs/profiles.md and the operator speak of the same."""

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from capstan_operator.api.profile import Profile
from capstan_operator.cli.render import render as render_manifests
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.profiled import ProfiledSpec
from capstan_operator.desired.profiles import is_of_profiles, read_profiles
from capstan_operator.manifests.collect import load_manifests
from capstan_operator.manifests.profiles import with_profiles
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from support.helm import CHART, one, render, try_render
from support.needs import ROOT
from support.yamls import load, load_all

EXAMPLE = ROOT / "examples" / "profiles.yaml"


def _example() -> dict[str, Any]:
    documents = list(load_all(EXAMPLE.read_text()))
    return {name: load(text) for name, text in documents[0]["data"].items()}


def _profiles(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == "ConfigMap" and is_of_profiles(item)]


def test_there_are_no_profiles_unless_somebody_says_some() -> None:
    """The default install has no such ConfigMap, nor has one all of whose profiles are null."""
    assert _profiles(render()) == []
    assert _profiles(render({"profiles": {"l4": None}})) == []


def test_the_operator_reads_what_the_chart_makes() -> None:
    """The profiles of the example, as values, come out of the ConfigMap as they went in; null in one is absent."""
    said = _example()
    found = one(render({"profiles": {**said, "gone": None}}), "ConfigMap", "capstan-profiles")
    book = read_profiles([found])
    assert book.faults == ()
    assert {name: known.profile for name, known in book.profiles.items()} == {
        name: Profile.model_validate(profile) for name, profile in said.items()
    }
    [found] = _profiles(render({"profiles": {"l4": {"runtimeClassName": None, "priorityClassName": "a"}}}))
    profile = read_profiles([found]).profiles["l4"].profile
    assert profile == Profile(priorityClassName="a")


def _fields(part: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        said = field.annotation
        inner = [one for one in (said, *(() if get_origin(said) is tuple else get_args(said))) if _is_part(one)]
        if inner:
            yield from _fields(inner[0], f"{path}{name}.")
        else:
            yield f"{path}{name}"


def _is_part(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _schema_fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, inner in schema["properties"].items():
        if "properties" in inner:
            yield from _schema_fields(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_a_name_that_yaml_takes_for_something_else_stays_one() -> None:
    """Names of hardware are often numbers, and YAML has words of its own."""
    names = ["4090", "1e3", "no", "off", "null"]
    found = one(
        render({"profiles": {name: {"gpuResource": "amd.com/gpu"} for name in names}}), "ConfigMap", "capstan-profiles"
    )
    assert sorted(found["data"]) == sorted(names)


def test_schema_and_page_have_every_field() -> None:
    """Of a profile the chart's schema knows what the operator knows, and docs/profiles.md has a line for each."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["profiles"]["additionalProperties"]
    fields = set(_fields(Profile))
    assert set(_schema_fields(schema)) == fields
    page = (ROOT / "docs" / "profiles.md").read_text()
    told = {path if not path.startswith("engines.") else f"engines.TYPE.{path.rpartition('.')[2]}" for path in fields}
    assert [path for path in sorted(told) if f"`{path}`" not in page] == []


def test_a_wrong_value_is_refused_by_helm() -> None:
    """A slip in a field, or a name that no LLMModel could name, is told at the install."""
    wrong = {
        "nodeSelectors": {"l4": {"nodeSelectors": {}}},
        "L4": {"L4": {}},
        "vllm": {"l4": {"engines": {"vllm": {}}}},
    }
    for slip, profiles in wrong.items():
        done = try_render({"profiles": profiles})
        assert done.returncode != 0
        assert f"'{slip}'" in done.stderr


def test_the_example_is_as_its_comments_say() -> None:
    """Its model gets the amounts of two GPUs, and its own option in the place of the profile's."""
    manifests = with_profiles(load_manifests([EXAMPLE]))
    assert not manifests.failed
    model = manifests.models[ObjectKey("default", "mistral-small")]
    assert find_faults(model) == ()
    spec = model.spec
    assert isinstance(spec, ProfiledSpec)
    ours = spec.resources
    assert (ours.cpu, ours.memory, ours.sharedMemory, ours.priorityClassName) == ("40", "360Gi", "16Gi", "serving")
    assert spec.engine.args == ("--max-num-batched-tokens=16384", "--max-num-seqs=128")
    comment = "# default/mistral-small: the profile 'h100' of the ConfigMap 'profiles' gives engine.args (in part), "
    assert comment in render_manifests(manifests, Settings())
