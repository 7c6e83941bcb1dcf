"""The config across the first release that has a ledger: both directions, with the reader and writer from before it.

`before_the_ledger/` has the contract's modules as that release had them, and what it wrote for a few models, whole and
in shards. They can go when upgrades from it are no longer supported.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from capstan_contract.config import (
    ConfigReport,
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    Price,
    Provider,
    RouterBackend,
    RouterMember,
    ServiceBackend,
)
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import ConfigReader
from capstan_contract.sharding import shards_named_by, split_config

HERE = Path(__file__).parent / "before_the_ledger"


@pytest.fixture(scope="module")
def before() -> Iterator[ModuleType]:
    """The contract as it was."""
    kept = sys.modules["capstan_contract.names"]
    names, config = ModuleType("capstan_contract.names"), ModuleType("config_before_the_ledger")
    exec((HERE / "names.py.txt").read_text(), names.__dict__)  # noqa: S102 - a copy of our own code
    sys.modules["capstan_contract.names"], sys.modules[config.__name__] = names, config
    try:
        exec((HERE / "config.py.txt").read_text(), config.__dict__)  # noqa: S102 - a copy of our own code
    finally:
        sys.modules["capstan_contract.names"] = kept
    yield config
    del sys.modules[config.__name__]


def entries(**fields: Any) -> list[ModelEntry]:
    """Give models of several kinds."""
    service = ServiceBackend(namespace="team", service="chat-model", portName="http")
    endpoint = ExternalEndpoint(name="default", url="https://api.example.com/v1", credentialFile="team.hosted")
    hosted = ExternalBackend(provider=Provider.OPENAI, endpoints=(endpoint,))
    router = RouterBackend(members=(RouterMember(model="team/chat"), RouterMember(model="team/hosted")))
    backends = {"chat": service, "hosted": hosted, "front": router}
    return [
        ModelEntry(
            id=f"team/{name}",
            servedName=name,
            upstreamName=name,
            backend=backend,
            price=Price(inputPerMillion=0.1),
            **fields,
        )
        for name, backend in backends.items()
    ]


@pytest.mark.parametrize("shard_bytes", [900_000, 1200])
def test_a_gateway_from_before_reads_what_is_written_now(before: ModuleType, shard_bytes: int) -> None:
    """It finds every field that it requires, its hash fits, and it loses nothing that it knows; also in shards."""
    config = GatewayConfig.build(entries(uid="u", auto=False), reserved={"a-name": "team/router"})
    documents = split_config(config, shard_bytes=shard_bytes)
    assert ConfigReader().read(documents).config == config
    assert (len(documents) > 2) == (shard_bytes < 900_000)
    read = before.join_config(documents)
    assert read.hash == config.hash
    theirs = {model.id: model.model_dump(mode="json") for model in read.models}
    assert theirs == {model.id: model.model_dump(mode="json", exclude={"uid", "auto"}) for model in config.models}


def test_a_gateway_from_before_refuses_what_it_would_serve_without_its_guard(before: ModuleType) -> None:
    """Whatever requires anything, or names a policy, is of a schema version that it does not know."""
    guard = PolicyEntry(id="Guard/team/strict", kind="Guard")
    for config in (
        GatewayConfig.build(entries(requires=("guard/v2",))),
        GatewayConfig.build(entries(policies=(guard.id,)), policies=(guard,)),
        GatewayConfig.build(entries(), requires=("guard/v2",)),
    ):
        with pytest.raises(before.ConfigError, match="schemaVersion"):
            before.join_config(split_config(config))


@pytest.mark.parametrize("folder", ["whole", "shards"])
def test_what_an_operator_from_before_wrote_is_read(before: ModuleType, folder: str) -> None:
    """An upgraded gateway serves it as it was, and knows the generations that it is asked for."""
    documents = {path.name: path.read_text() for path in (HERE / folder).iterdir()}
    reading = ConfigReader().read(documents)
    assert reading.refused == {}
    assert {model.id: model.generation for model in reading.config.models} == {
        "team/chat": 3,
        "team/hosted": 1,
        "team/front": 7,
    }
    assert reading.config.hash == json.loads(documents[CONFIG_FILE])["hash"]
    assert (len(shards_named_by(documents[CONFIG_FILE])) > 1) == (folder == "shards")


def test_an_operator_from_before_understands_a_report(before: ModuleType) -> None:
    """A rolled-back operator finds the field that it requires, and ignores the others."""
    report = ConfigReport(hash="h", refused={"team/chat": ("guard/v2",)})
    read = before.ConfigReport.model_validate_json(report.model_dump_json(), extra="ignore")
    assert (read.hash, read.generations) == ("h", {})


def test_a_gateway_from_before_is_understood() -> None:
    """Its report says its hash; the generations beside it are not looked at."""
    report = ConfigReport.model_validate_json('{"hash":"h","generations":{"team/chat":0},"error":null}', extra="ignore")
    assert (report.hash, report.refused) == ("h", {})
