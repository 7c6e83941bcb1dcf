"""What an administrator's settings allow, and where credentials go."""

from dataclasses import replace

import pytest

from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.entries import credential_origins
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.naming import credential_file, origin_of
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from support.plainmodels import make_model


def test_the_rules_are_those_of_the_settings() -> None:
    """Each setting, and the namespace of the installation as the shared one."""
    settings = Settings(allowed_names={"a": ("x-*",)}, fallbacks_across_namespaces=True, auto_namespaces=("a", "b"))
    settings = replace(settings, build=replace(settings.build, install_namespace="capstan-system"))
    assert NameRules.from_settings(settings) == NameRules(
        allowed={"a": ("x-*",)},
        shared_namespace="capstan-system",
        fallbacks_across_namespaces=True,
        auto_namespaces=("a", "b"),
    )
    assert not NameRules.from_settings(Settings()).fallbacks_across_namespaces


def test_a_credential_goes_to_the_origin_of_its_endpoint() -> None:
    """Scheme, host and port: where that changes, it is another credential; an endpoint without one has none."""
    endpoints = [
        {"name": "a", "url": "https://a.example/v1", "secretRef": {"name": "s", "key": "k"}},
        {"name": "b", "url": "http://b.example:8080/v1", "secretRef": {"name": "s", "key": "k"}},
        {"name": "c", "url": "https://c.example/v1"},
    ]
    (entry,) = compile_gateway([make_model(external={"provider": "OpenAI", "endpoints": endpoints})]).config.models
    origins = credential_origins(entry)
    assert {name.split(".")[2]: origin for name, origin in origins.items()} == {
        "a": "https://a.example:443",
        "b": "http://b.example:8080",
    }
    assert credential_origins(compile_gateway([make_model()]).config.models[0]) == {}


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/v1", "https://a.example:443"),
        ("http://A.example", "http://a.example:80"),
        ("https://a.example:8443/v1?x=y", "https://a.example:8443"),
        ("ftp://a.example/x", "ftp://a.example:"),
        ("file:///x", "file://:"),
        ("", "://:"),
        ("https://a:99999999", "https://a:99999999"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    """With the usual port where none is said; of what is no URL, all of it."""
    assert origin_of(url) == origin


def test_a_credential_s_file_says_which_reference_it_is_of() -> None:
    """Each part of it, and where it is sent, makes another file; what is not said is as if it were empty."""
    key = ObjectKey("ns", "m")
    said = {"uid": "u", "secret": "s", "secret_key": "k", "url": "https://a.example/v1"}
    files = {credential_file(key, **said)} | {credential_file(key, **{**said, part: "other"}) for part in said}
    assert len(files) == 5
    assert credential_file(key, **{**said, "url": "https://a.example/v2"}) in files, "of the same host"
    assert credential_file(key) == credential_file(key, None, uid="", secret="", secret_key="", url="")
