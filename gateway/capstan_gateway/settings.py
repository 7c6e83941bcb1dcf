"""The gateway's settings: command line first, then environment, read once at start.

Every flag is also an environment variable: `--drain-seconds` is CAPSTAN_GATEWAY_DRAIN_SECONDS.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from capstan_contract.config import Strategy
from capstan_contract.names import GATEWAY_PORT
from capstan_contract.queue.wire import LEAST_SECRET_BYTES
from capstan_contract.redis_address import read_redis_url
from capstan_process.logs import FORMATS, LEVELS
from capstan_process.settings import SettingsError, read_command_line, setting

ENV_PREFIX: Final = "CAPSTAN_GATEWAY_"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MEBIBYTE: Final = 1024 * 1024
MAX_PORT: Final = 65535
MAX_KEPT_SECONDS: Final = 366 * 86400
EXPOSED_HEADERS: Final = (
    "x-request-id", "request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-capstan-model",
    "x-capstan-track", "x-capstan-route", "x-capstan-cost", "x-capstan-budget", "x-capstan-guard",
    "x-capstan-unchecked", "x-capstan-dropped-tools", "x-capstan-trimmed", "x-capstan-counted-by",
    "x-capstan-queue-place", "x-capstan-queue-expected-wait", "x-gateway-attempts", "x-gateway-overhead-ms",
    "x-cache", "x-cache-key", "x-cache-inputs", "x-cache-similarity", "age", "location", "preference-applied",
    *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    *(
        f"anthropic-ratelimit-{unit}-{what}"
        for unit in ("requests", "tokens", "input-tokens", "output-tokens")
        for what in ("limit", "remaining", "reset")
    ),
)  # fmt: skip
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST_ENTRY: Final = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::([1-9][0-9]{0,4}))?")
_HTTP_URL: Final = re.compile(r"https?://[^/\s,@?#]+(?:/[^\s,@#]*)?")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*?#@]+")


def read_files_url(url: str) -> str:
    """Give the URL of a place for files as it is; ValueError when it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("must be file:///DIRECTORY or s3://BUCKET/PREFIX") from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must have neither a query nor a user: credentials come from the environment")
    if parts.scheme == "file":
        if parts.netloc or len(parts.path) < 2 or not parts.path.startswith("/"):
            raise ValueError("must be file:///DIRECTORY, with an absolute path")
    elif parts.scheme != "s3" or not parts.netloc:
        raise ValueError("must be file:///DIRECTORY or s3://BUCKET/PREFIX")
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this process runs. What users decide about models lives in resources, not here."""

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 in a pod")
    port: int = setting(GATEWAY_PORT, "port of the OpenAI API", least=0, most=MAX_PORT)
    admin_port: int | None = setting(
        None, "port of /metrics and /internal/config (default: the API's)", least=0, most=MAX_PORT
    )
    config_dir: Path | None = setting(None, "directory with config.json and its shards, watched")
    kube_namespace: str | None = setting(
        None, "namespace of the config's ConfigMap; with --kube-config-map it turns the Kubernetes source on"
    )
    kube_config_map: str | None = setting(
        None, "name of the config's ConfigMap, watched through the API; its shards are named after it"
    )
    kube_credentials: str | None = setting(
        None, "name of the Secret with the API keys of external models, in the same namespace"
    )
    kube_url: str | None = setting(None, "Kubernetes API (default: that of this pod's cluster)")
    kube_service_account_dir: Path = setting(
        SERVICE_ACCOUNT, "directory with token and ca.crt for that API; the token is read again when it is renewed"
    )
    discovery_namespaces: tuple[str, ...] = setting(
        (), "comma-separated namespaces whose EndpointSlices are watched (default: all, with one watch)"
    )
    region: str = setting("", "where this gateway is, in the words of spec.external.endpoints: those come first")
    auto_strategy: Strategy = setting(Strategy.CHEAPEST, "how the model `auto` chooses among all models")
    credentials_dir: Path | None = setting(None, "directory with a file for each external model's API key, watched")
    tokenizers_dir: Path | None = setting(
        None,
        "directory with tokenizers of models, looked through every few seconds: NAME/tokenizer.json or "
        "NAME.tokenizer.json, o200k_base.tiktoken (default: prompts are counted by engines, or estimated)",
    )
    privacy_key_file: Path | None = setting(
        None,
        "file with the key (16 bytes or more) by which the names of users are hashed before models are told them, read "
        "again when it changes (default: a key of this process)",
    )
    insecure_no_auth: bool = setting(
        False, "serve everybody: a key that is valid still says who asks, another one is ignored"
    )
    oidc_issuers: tuple[str, ...] = setting(
        (), "comma-separated issuers (https://...) whose tokens say who asks, beside API keys (default: none)"
    )
    oidc_audiences: tuple[str, ...] = setting((), "comma-separated audiences; a token must be for one of them")
    oidc_jwks_url: str | None = setting(
        None, "where the keys of the only issuer are (default: where its discovery document says)"
    )
    oidc_user_claim: str = setting("sub", "claim with the user")
    oidc_team_claim: str = setting("", "claim with the team")
    oidc_tenant_claim: str = setting("", "claim with the tenant (default: the team, else the user is one)")
    oidc_tier_claim: str = setting("", "claim with the tier")
    oidc_models_claim: str = setting(
        "", "claim with the models that may be used; a token without it may use none (default: all may be used)"
    )
    oidc_leeway_seconds: float = setting(30.0, "how far the clocks of issuers may be off", least=0, most=300)
    oidc_refresh_seconds: float = setting(300.0, "how often the keys of issuers are fetched", least=1)
    oidc_stale_seconds: float = setting(21600.0, "how long keys are believed that cannot be fetched anew", least=0)
    oidc_ca_file: Path | None = setting(None, "the certificate authority of issuers, as PEM (default: the system's)")
    oidc_insecure_http: bool = setting(
        False, "keys of issuers may come over plain HTTP, for tests: whoever is between may then sign tokens"
    )
    admin_key_file: Path | None = setting(
        None,
        "file with the key of /internal and of what else is the admin's, read again when it changes; a second line is "
        "valid beside the first (default: none, and only what is harmless is open)",
    )
    metrics_need_admin_key: bool = setting(False, "/metrics needs the admin key on the admin port as well")
    tenant_metrics: int = setting(
        0, "most tenants that metrics name; further ones are counted as `other`; 0: there are no metrics of tenants",
        least=0, most=10_000,
    )  # fmt: skip
    endpoint_wait_seconds: float = setting(
        15.0, "longest wait of a request for a model without a ready endpoint", least=0
    )
    stream_slice_tokens: int = setting(
        256, "how many tokens of output limits take at a time for an answer that streams", least=1, most=1_000_000
    )
    count_seconds: float = setting(
        0.25, "how long a request near a limit waits for its model's own count of its prompt; 0: the estimate decides",
        least=0, most=10,
    )  # fmt: skip
    hedge_percent: float = setting(
        2.0, "most streams, in percent, sent to a second endpoint when their first token is late; 0: none",
        least=0, most=100,
    )  # fmt: skip
    hedge_after_seconds: float | None = setting(
        None, "when a first token is late (default: later than nineteen of twenty of the model's)", least=0
    )
    hedge_hosted: bool = setting(False, "hosted APIs, which charge for it, may be asked twice")
    probe_seconds: float = setting(
        10.0, "after how long without an answer an endpoint is asked whether it is ready; 0: never", least=0
    )
    probe_request_seconds: float = setting(
        60.0, "how often an endpoint without work makes one token, to show that it can; 0: never", least=0
    )
    probe_hosted: bool = setting(False, "hosted APIs, which charge for it, get such requests as well")
    engine_metrics_seconds: float = setting(
        15.0, "how often engines are asked how much of prompts they had in their caches; 0: never", least=0
    )
    kv_event_blocks: int = setting(
        1_000_000, "how many blocks of prompts are known, by what workers tell their engines hold; 0: none is asked",
        least=0,
    )  # fmt: skip
    kv_token_seconds: float = setting(
        0.05, "how long a request waits for the tokens of its prompt, by which it is known which engine holds them; a "
        "longer one than 4,096 tokens in proportion", above=0,
    )  # fmt: skip
    drain_seconds: float = setting(
        5.0, "how long new requests are served after SIGTERM, so that load balancers can notice", least=0
    )
    client_keep_alive_seconds: float = setting(
        75.0, "how long a client's connection is kept for its next request; longer than a load balancer does",
        above=0,
    )  # fmt: skip
    upstream_keep_alive_seconds: float = setting(
        4.0, "how long an engine's connection is kept for the next request; less than the engine does (uvicorn: 5 s)",
        above=0,
    )  # fmt: skip
    grace_seconds: float = setting(600.0, "how long running answers may go on after that", least=0)
    max_body_bytes: int = setting(32 * MEBIBYTE, "largest request body; 413 above it", least=1)
    image_hosts: tuple[str, ...] = setting(
        (),
        "comma-separated hosts (example.com, *.example.com) from which images by URL are fetched for models' own "
        "engines; no others are then allowed there (default: none, the engines get the URLs)",
    )
    image_bytes: int = setting(10 * MEBIBYTE, "largest image that is fetched", least=1)
    image_seconds: float = setting(
        10.0, "how long it may take to fetch one, and before that to find a free place", above=0
    )
    image_http: bool = setting(False, "images are fetched over plain HTTP as well")
    policy_hosts: tuple[str, ...] = setting(
        (),
        "comma-separated hosts (guard.example.com, *.example.com, with a port where it is another than the scheme's) "
        "that the URLs of namespaces' policies may name (default: any but this machine and a cloud's own services)",
    )
    policy_loopback: bool = setting(False, "URLs of policies may name this machine (127.0.0.1), which is nobody else's")
    redis_url: str | None = setting(
        None,
        "Redis for what is stored: redis://HOST:6379/0, redis+sentinel://HOST,HOST/NAME/0, redis+cluster://HOST,HOST; "
        "rediss in place of redis is TLS (default: none, nothing is stored)",
        read=read_redis_url, secret=True,
    )  # fmt: skip
    redis_password: str | None = setting(None, "its password, where the URL has none", secret=True)
    redis_sentinel_password: str | None = setting(None, "the password of its Sentinels, if they have one", secret=True)
    redis_ca_file: Path | None = setting(None, "the certificate authority of rediss://, as PEM (default: the system's)")
    redis_seconds: float = setting(1.0, "how long one call of Redis may take", above=0)
    redis_limit_seconds: float = setting(
        0.05, "how long a request waits for Redis at most where that is asked whether a limit allows it", above=0
    )
    gateways: int = setting(1, "how many gateways share the limits, until Redis says how many there are", least=1)
    stream_comment_seconds: float = setting(
        0.0, "how often a stream that waits for its first token gets a comment, so that none is taken for dead (15 is "
        "usual); the first one sends the head; 0: never",
        least=0,
    )  # fmt: skip
    queue_tiers: tuple[str, ...] = setting(
        (),
        "comma-separated tiers of credentials, how urgent their requests are in queues (high, default, low, batch) and "
        "what share of the engines their tenants have beside others: premium=high:4,trial=low:0.5 (default: all are of "
        "class default and weight 1)",
    )
    files_url: str | None = setting(
        None,
        "place for the files of batches: file:///DIRECTORY, which all gateways share, or s3://BUCKET/PREFIX, with "
        "credentials of the usual environment (default: none, there are neither files nor batches)",
        read=read_files_url,
    )  # fmt: skip
    file_bytes: int = setting(200_000_000, "largest file that is uploaded", least=1, most=5_000_000_000)
    files: int = setting(1000, "most files of one tenant; those that batches give are always taken", least=1)
    files_bytes: int = setting(10_000_000_000, "most bytes of them; as above", least=1)
    file_seconds: int = setting(
        2_592_000, "how long files are kept, and batches that are over, unless `expires_after` says less", least=3600,
        most=MAX_KEPT_SECONDS,
    )  # fmt: skip
    batches: int = setting(1000, "most batches of one tenant; the oldest that are over go first", least=1, most=10_000)
    batch_lines: int = setting(50_000, "most requests of one batch", least=1, most=1_000_000)
    batch_concurrency: int = setting(16, "how many requests of batches one gateway asks at once", least=1, most=1000)
    batch_spare_requests: int = setting(
        8, "a model without a queue gets requests of batches only while fewer than so many are in flight from this "
        "gateway for each of its ready endpoints", least=1,
    )  # fmt: skip
    limits_one_by_one: bool = setting(
        False, "ask Redis for each limited request, in place of taking shares of large limits ahead"
    )
    stored_response_seconds: int = setting(
        86400, "how long responses of /v1/responses are kept in Redis, with what they answer; 0: none is",
        least=0, most=MAX_KEPT_SECONDS,
    )  # fmt: skip
    stored_response_bytes: int = setting(
        MEBIBYTE, "largest response that is kept, with what it answers", least=1, most=64 * MEBIBYTE
    )
    stored_responses: int = setting(10_000, "most responses that are kept for one tenant; the oldest go first", least=1)
    stored_responses_bytes: int = setting(
        64 * MEBIBYTE, "most bytes of them for one tenant; the oldest go first", least=1
    )
    background_responses: int = setting(
        256, "most responses in the background of one tenant that are not over", least=1, most=10_000
    )
    background_concurrency: int = setting(
        64, "how many responses in the background one gateway asks for at once", least=1, most=2048
    )
    background_seconds: int = setting(
        3600, "how long a response in the background may take until it has failed", least=1, most=MAX_KEPT_SECONDS
    )
    usage_days: int = setting(
        35, "how many days it is kept who has used how much of which model, in Redis if there is one; 0: nobody counts",
        least=0, most=366,
    )  # fmt: skip
    usage_rows: int = setting(
        5000, "most combinations of tenant, team, user and model of a day; all others are counted as one", least=1,
        most=100_000,
    )  # fmt: skip
    evaluation_samples: int = setting(
        1000, "samples of answers of one model that wait in Redis to be judged, at most; older ones go", least=1,
        most=100_000,
    )  # fmt: skip
    evaluation_sample_bytes: int = setting(
        64 * 1024, "most bytes of a request and its answer together that become a sample", least=1024,
        most=4 * MEBIBYTE,
    )  # fmt: skip
    evaluation_secret: str | None = setting(
        None, "what samples are sealed with, as the scorer has it: at least 16 bytes (default: they are not sealed)",
        secret=True,
    )  # fmt: skip
    feedback_answers: int = setting(
        20_000, "of how many answers each gateway knows to whom it gave them, so that clients can say how good they "
        "were; 0: nobody can", least=0, most=10_000_000,
    )  # fmt: skip
    feedback_shared_answers: int = setting(
        200_000, "of how many all gateways know that together, where there is a Redis; 0: each knows its own alone",
        least=0, most=100_000_000,
    )  # fmt: skip
    feedback_answer_seconds: int = setting(
        86400, "how long after an answer something can be said of it", least=60, most=MAX_KEPT_SECONDS
    )
    feedback_entries: int = setting(
        100_000, "how much of what was said of answers is kept, in Redis if there is one; the oldest goes first",
        least=1, most=10_000_000,
    )  # fmt: skip
    feedback_seconds: int = setting(
        2_592_000, "how long it is kept what was said of answers", least=60, most=MAX_KEPT_SECONDS
    )
    memory_bytes: int = setting(
        0, "what requests and answers may hold together; 503 above it; 0: half of the container's memory limit", least=0
    )
    write_seconds: float = setting(
        30.0, "how long a client may take to read what it was sent, or a part of it", least=0.1
    )
    max_header_bytes: int = setting(64 * 1024, "largest request head; 431 above it", least=1)
    max_concurrency: int = setting(2048, "most requests in flight; 503 above it", least=1)
    max_connections: int = setting(16384, "most connections of clients to one port; 503 and closed above it", least=1)
    cors_origins: tuple[str, ...] = setting(
        (), "comma-separated origins whose pages may use the gateway from a browser, or * (default: none)"
    )
    cors_methods: tuple[str, ...] = setting(("GET", "HEAD", "POST"), "what such pages may do")
    cors_headers: tuple[str, ...] = setting(("*",), "headers that such pages may send; *: all that they ask for")
    cors_exposed_headers: tuple[str, ...] = setting(EXPOSED_HEADERS, "headers of answers that such pages may read")
    cors_max_age_seconds: int = setting(600, "how long browsers may remember that", least=0)
    log_level: str = setting("info", "what is logged; a line for each request is at info", choices=LEVELS)
    guard_shadow_dollars_per_hour: float = setting(
        1.0,
        "what each policy in mode Shadow may spend on models in an hour, for each replica: then its guards that ask "
        "somebody look on no more until the hour is over",
        least=0,
    )
    guard_audit: bool = setting(True, "write a line of JSON to the log for each decision of a guard")
    log_format: str = setting("json", "form of the log", choices=FORMATS)

    @property
    def watches_kubernetes(self) -> bool:
        """Whether the config and the endpoints come from a Kubernetes API."""
        return self.kube_config_map is not None


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read flags, then environment, then defaults; SystemExit for an unknown flag, else SettingsError."""
    settings = read_command_line(
        Settings,
        prog="capstan-gateway",
        description="Capstan's OpenAI-compatible gateway.",
        prefix=ENV_PREFIX,
        arguments=arguments,
        environ=environ,
    )
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Refuse combinations that cannot work or are not safe."""
    if (settings.kube_namespace is None) != (settings.kube_config_map is None):
        raise SettingsError("--kube-namespace and --kube-config-map must be given together")
    if settings.kube_credentials is not None and settings.kube_config_map is None:
        raise SettingsError("--kube-credentials needs --kube-namespace and --kube-config-map")
    if settings.config_dir is None and settings.kube_config_map is None:
        raise SettingsError("a config source is needed: --config-dir, or --kube-namespace with --kube-config-map")
    if settings.admin_port is not None and settings.admin_port == settings.port:
        raise SettingsError("--admin-port must differ from --port")
    if settings.stored_response_bytes > settings.stored_responses_bytes:
        raise SettingsError("--stored-response-bytes must be at most --stored-responses-bytes")
    if settings.feedback_answer_seconds > settings.feedback_seconds:
        raise SettingsError("--feedback-answer-seconds must be at most --feedback-seconds")
    if settings.redis_ca_file is not None and not settings.redis_ca_file.is_file():
        raise SettingsError(f"--redis-ca-file: {settings.redis_ca_file} is no file")
    if settings.evaluation_secret is not None and len(settings.evaluation_secret.encode()) < LEAST_SECRET_BYTES:
        raise SettingsError(f"--evaluation-secret must have at least {LEAST_SECRET_BYTES} bytes")
    if settings.files_url is not None and settings.redis_url is None:
        raise SettingsError("--files-url needs --redis-url: what is known of files and batches is there")
    _check_oidc(settings)
    for flag, hosts in (("--image-hosts", settings.image_hosts), ("--policy-hosts", settings.policy_hosts)):
        for host in hosts:
            found = _HOST_ENTRY.fullmatch(host)
            if found is None or int(found[1] or 1) > MAX_PORT:
                raise SettingsError(f"{flag}: {host!r} is not a host such as example.com or *.example.com")
    _check_cors(settings)


def _check_oidc(settings: Settings) -> None:
    if not settings.oidc_issuers:
        if settings.oidc_audiences or settings.oidc_jwks_url is not None:
            raise SettingsError("--oidc-audiences and --oidc-jwks-url need --oidc-issuers")
        return
    if not settings.oidc_audiences:
        raise SettingsError(
            "--oidc-issuers needs --oidc-audiences: a token that is for somebody else must not be taken"
        )
    if settings.oidc_jwks_url is not None and len(settings.oidc_issuers) > 1:
        raise SettingsError("--oidc-jwks-url is for one issuer only")
    schemes = ("https://", "http://") if settings.oidc_insecure_http else ("https://",)
    keys_url = () if settings.oidc_jwks_url is None else (settings.oidc_jwks_url,)
    for flag, urls in (("--oidc-issuers", settings.oidc_issuers), ("--oidc-jwks-url", keys_url)):
        for url in urls:
            if not url.startswith(schemes) or not _HTTP_URL.fullmatch(url):
                raise SettingsError(f"{flag}: {url!r} is no https:// URL")
    if settings.oidc_ca_file is not None and not settings.oidc_ca_file.is_file():
        raise SettingsError(f"--oidc-ca-file: {settings.oidc_ca_file} is no file")


def _check_cors(settings: Settings) -> None:
    for origin in settings.cors_origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise SettingsError(f"--cors-origins: {origin!r} is not an origin such as https://app.example.com, or *")
    for flag, names in (
        ("--cors-methods", settings.cors_methods),
        ("--cors-headers", settings.cors_headers),
        ("--cors-exposed-headers", settings.cors_exposed_headers),
    ):
        for name in names:
            if not _TOKEN.fullmatch(name):
                raise SettingsError(f"{flag}: {name!r} is not a name")
