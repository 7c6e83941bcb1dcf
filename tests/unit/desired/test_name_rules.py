"""What an administrator's settings allow, and where credentials go."""

from dataclasses import replace

from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.entries import credential_origins
from capstan_operator.desired.name_rules import NameRules
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
