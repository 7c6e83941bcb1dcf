"""Flags, environment, and combinations that must not start."""

from pathlib import Path

import pytest

from capstan_contract.config import Strategy
from capstan_contract.redis_address import FORMS
from capstan_gateway.composition import Gateway
from capstan_gateway.settings import parse_settings
from capstan_gateway.surface import api_listener
from capstan_process.settings import SettingsError, describe

BASE = ["--insecure-no-auth", "--config-dir", "/config"]


def test_flag_beats_environment_beats_default() -> None:
    """Every flag is also an environment variable; the command line wins."""
    environ = {
        "CAPSTAN_GATEWAY_PORT": "81",
        "CAPSTAN_GATEWAY_DRAIN_SECONDS": "1.5",
        "CAPSTAN_GATEWAY_LOG_FORMAT": "text",
    }
    settings = parse_settings([*BASE, "--port", "82"], environ)
    assert (settings.port, settings.drain_seconds, settings.log_format) == (82, 1.5, "text")
    assert (settings.host, settings.grace_seconds, settings.config_dir) == ("127.0.0.1", 600.0, Path("/config"))


def test_all_of_it_from_the_environment() -> None:
    """A pod can be configured without a command line."""
    environ = {
        "CAPSTAN_GATEWAY_INSECURE_NO_AUTH": "true",
        "CAPSTAN_GATEWAY_KUBE_NAMESPACE": "capstan",
        "CAPSTAN_GATEWAY_KUBE_CONFIG_MAP": "capstan-gateway-config",
        "CAPSTAN_GATEWAY_DISCOVERY_NAMESPACES": "a, b",
        "CAPSTAN_GATEWAY_ADMIN_PORT": "9090",
    }
    settings = parse_settings([], environ)
    assert settings.watches_kubernetes
    assert settings.discovery_namespaces == ("a", "b")
    assert settings.admin_port == 9090


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--insecure-no-auth"], "a config source is needed"),
        ([*BASE, "--oidc-issuers", "https://id.example.com"], "needs --oidc-audiences"),
        ([*BASE, "--oidc-audiences", "x"], "need --oidc-issuers"),
        ([*BASE, "--oidc-audiences", "x", "--oidc-issuers", "http://id"], "is no https:// URL"),
        ([*BASE, "--oidc-audiences", "x", "--oidc-issuers", "https://u:p@id"], "is no https:// URL"),
        (
            [*BASE, "--oidc-audiences", "x", "--oidc-issuers", "https://a,https://b", "--oidc-jwks-url", "https://a/k"],
            "is for one issuer only",
        ),
        (
            [*BASE, "--oidc-audiences", "x", "--oidc-issuers", "https://a", "--oidc-jwks-url", "file:///k"],
            "--oidc-jwks-url: 'file:///k' is no https:// URL",
        ),
        (
            [*BASE, "--oidc-audiences", "x", "--oidc-issuers", "https://a", "--oidc-ca-file", "/nowhere"],
            "--oidc-ca-file: /nowhere is no file",
        ),
        ([*BASE, "--tenant-metrics", "10001"], "--tenant-metrics must be from 0 to 10000"),
        ([*BASE, "--kube-namespace", "x"], "must be given together"),
        ([*BASE, "--port", "80", "--admin-port", "80"], "must differ"),
        ([*BASE, "--port", "65536"], "--port must be from 0 to 65535"),
        ([*BASE, "--admin-port", "-1"], "--admin-port must be from 0 to 65535"),
        ([*BASE, "--image-hosts", "https://img.example.com"], "is not a host such as example.com"),
        ([*BASE, "--policy-hosts", "http://guard"], "--policy-hosts: 'http://guard' is not a host"),
        ([*BASE, "--image-hosts", "*"], "is not a host such as example.com"),
        ([*BASE, "--image-hosts", "img.example.com:0"], "is not a host such as example.com"),
        ([*BASE, "--image-hosts", "img.example.com:65536"], "is not a host such as example.com"),
        ([*BASE, "--image-bytes", "0"], "--image-bytes must be at least 1"),
        ([*BASE, "--redis-seconds", "0"], "--redis-seconds must be greater than 0"),
        ([*BASE, "--redis-ca-file", "/nowhere"], "--redis-ca-file: /nowhere is no file"),
        ([*BASE, "--stored-responses", "0"], "--stored-responses must be at least 1"),
        ([*BASE, "--stored-response-seconds", "-1"], "--stored-response-seconds must be from 0 to 31622400"),
        ([*BASE, "--stored-responses-bytes", "9"], "--stored-response-bytes must be at most --stored-responses-bytes"),
    ],
)
def test_what_cannot_work_does_not_start(arguments: list[str], message: str) -> None:
    """The message says what to change."""
    with pytest.raises(SettingsError, match=message):
        parse_settings(arguments, {})


def test_unknown_flag_is_refused() -> None:
    """A typo is an error, not a default."""
    with pytest.raises(SystemExit):
        parse_settings([*BASE, "--prot", "80"], {})


def test_hedges_and_probes_can_be_turned_off_and_hosted_apis_in() -> None:
    """0 is off; asking hosted APIs more than clients do is a switch of its own, in the environment as well."""
    off = parse_settings([*BASE, "--hedge-percent", "0", "--probe-seconds", "0"], {})
    assert (off.hedge_percent, off.probe_seconds, off.hedge_hosted, off.probe_hosted) == (0, 0, False, False)
    hosted = parse_settings([*BASE, "--hedge-hosted"], {"CAPSTAN_GATEWAY_PROBE_HOSTED": "true"})
    assert hosted.hedge_hosted
    assert hosted.probe_hosted
    with pytest.raises(SettingsError, match="--hedge-percent must be from 0 to 100"):
        parse_settings([*BASE, "--hedge-percent", "101"], {})


def test_region_and_strategy_are_read() -> None:
    """A region is any word; a strategy is one of four, in any case of letters."""
    settings = parse_settings([*BASE, "--auto-strategy", "fastest"], {"CAPSTAN_GATEWAY_REGION": "eu-central"})
    assert (settings.region, settings.auto_strategy) == ("eu-central", Strategy.FASTEST)
    assert parse_settings(BASE, {}).auto_strategy is Strategy.CHEAPEST
    with pytest.raises(SettingsError, match=r"--auto-strategy must be one of .*Cheapest.*, not 'best'"):
        parse_settings([*BASE, "--auto-strategy", "best"], {})


async def test_how_long_connections_are_kept_is_a_setting_on_both_sides() -> None:
    """A load balancer that keeps its connections for longer, and an engine that does for less, can be served."""
    settings = parse_settings([*BASE, "--client-keep-alive-seconds", "350", "--upstream-keep-alive-seconds", "1.5"], {})
    gateway = Gateway(settings)
    try:
        assert api_listener(gateway).service.limits.keep_alive_seconds == 350.0
        assert gateway.client._limits.idle_seconds == 1.5
    finally:
        await gateway.client.aclose()
    for flag in ("--client-keep-alive-seconds", "--upstream-keep-alive-seconds"):
        with pytest.raises(SettingsError, match="greater than 0"):
            parse_settings([*BASE, flag, "0"], {})


@pytest.mark.parametrize(
    "url",
    ["redis://r", "redis://r:6379", "redis://r:6379/", "redis://r/15", "rediss://user:p%40ss@r.example.com:6380/0",
     "redis://:hunter2@10.0.0.1", "redis://[::1]:6379/0"],
)  # fmt: skip
def test_urls_of_redis(url: str) -> None:
    """What names a host is taken as it is; the log at the start says only that there is one."""
    settings = parse_settings([*BASE, "--redis-url", url], {"CAPSTAN_GATEWAY_REDIS_PASSWORD": "hunter2"})
    assert (settings.redis_url, settings.redis_password) == (url, "hunter2")
    shown = describe(settings)
    assert (shown["redis_url"], shown["redis_password"]) == ("(set)", "(set)")


@pytest.mark.parametrize(
    "url",
    ["hunter2", "http://u:hunter2@r", "redis://", "redis://:hunter2@", "redis://u:hunter2@r:x", "redis://u:hunter2@r:0",
     "redis://r:99999", "redis://u:hun/ter2@r", "redis://r/hunter2", "redis://r/0/1", "redis://r?ssl_cert_reqs=none",
     "rediss://r/0?password=hunter2", "redis://r#hunter2", "unix:///run/redis.sock", "redis://[::1", "redis+sentinel://r"],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    """Anything else is refused with what is allowed, and is not repeated: a password may be in it."""
    with pytest.raises(SettingsError) as raised:
        parse_settings(BASE, {"CAPSTAN_GATEWAY_REDIS_URL": url})
    assert str(raised.value) == (f"CAPSTAN_GATEWAY_REDIS_URL {FORMS}")


@pytest.mark.parametrize("url", ["file:///var/files", "s3://bucket", "s3://bucket/some/where"])
def test_places_for_files(url: str) -> None:
    """A directory or a bucket is taken as it is, where there is a Redis too."""
    assert parse_settings([*BASE, "--files-url", url, "--redis-url", "redis://r"], {}).files_url == url
    with pytest.raises(SettingsError, match="--files-url needs --redis-url"):
        parse_settings([*BASE, "--files-url", url], {})


@pytest.mark.parametrize(
    "url",
    ["files", "/files", "file:///", "file://host/files", "s3://", "s3:///files", "http://host/files", "gs://bucket",
     "s3://key:secret@bucket", "s3://bucket?region=x", "s3://[::1"],
)  # fmt: skip
def test_places_that_are_none(url: str) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(SettingsError, match="must"):
        parse_settings([*BASE, "--files-url", url, "--redis-url", "redis://r"], {})


def test_no_redis_unless_one_is_named() -> None:
    """Without a URL nothing is stored; an empty one is none."""
    for environ in ({}, {"CAPSTAN_GATEWAY_REDIS_URL": ""}):
        assert parse_settings(BASE, environ).redis_url is None


@pytest.mark.parametrize(("more", "together"), [([], False), (["--redis-url", "redis://r"], True)])
async def test_gateways_with_one_redis_count_together(more: list[str], together: bool) -> None:
    """And say so to the operator, which adds up only what each of them counts for itself."""
    gateway = Gateway(parse_settings([*BASE, *more], {}))
    try:
        assert gateway.limits.report().shared is together
    finally:
        await gateway.client.aclose()
