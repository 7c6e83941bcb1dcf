"""Puts together what checks tokens, as the settings say it."""

import random
import time
from collections.abc import Callable

from capstan_gateway.identity.claims import ClaimNames
from capstan_gateway.identity.issuer import Issuer
from capstan_gateway.identity.published import Published
from capstan_gateway.identity.tokens import Tokens
from capstan_gateway.settings import Settings
from capstan_gateway.upstream.port import UpstreamClient


def make_tokens(
    settings: Settings,
    client: UpstreamClient,
    *,
    rng: random.Random,
    count: Callable[[str, str], object],
    wall: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Tokens | None:
    """Give what checks the tokens of the issuers in the settings; None without one.

    Run each of its issuers. `count` is told the issuer and the outcome of every attempt to fetch its keys.
    """
    if not settings.oidc_issuers:
        return None
    # NB: not before it is needed: it loads a library that takes some ten megabytes.
    from capstan_gateway.identity.signatures import read_key

    def issuer(name: str) -> Issuer:
        published = Published(
            client, name, keys_url=settings.oidc_jwks_url, allow_http=settings.oidc_insecure_http,
            authority=settings.oidc_ca_file,
        )  # fmt: skip
        return Issuer(
            name, published.keys, read_key, clock=clock, rng=rng, refresh_seconds=settings.oidc_refresh_seconds,
            stale_seconds=settings.oidc_stale_seconds, on_fetched=lambda outcome: count(name, outcome),
        )  # fmt: skip

    names = ClaimNames(
        user=settings.oidc_user_claim, team=settings.oidc_team_claim, tenant=settings.oidc_tenant_claim,
        tier=settings.oidc_tier_claim, models=settings.oidc_models_claim,
    )  # fmt: skip
    return Tokens(
        [issuer(name) for name in dict.fromkeys(settings.oidc_issuers)],
        audiences=settings.oidc_audiences, names=names, leeway=settings.oidc_leeway_seconds, wall=wall,
    )  # fmt: skip


def notes(tokens: Tokens | None) -> tuple[str, ...]:
    """Say which issuers' keys cannot be fetched now."""
    if tokens is None:
        return ()
    failing = ((issuer.name, issuer.failure) for issuer in tokens.issuers.values())
    return tuple(f"keys of {name} could not be fetched: {failure}" for name, failure in failing if failure)
