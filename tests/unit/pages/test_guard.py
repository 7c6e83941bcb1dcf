"""Who may read which page."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_gateway.errors import Unauthenticated, Unconfigured
from capstan_gateway.identity.admin_key import AdminKey
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.keyring import NO_KEYS
from capstan_gateway.pages.guard import AdminGuard, ApiGuard, Guard
from capstan_gateway.serving.turned_away import Reason
from support.keys import key_text

ADMIN_KEY = b"admin-admin-admin-admin"
PATHS = (b"/healthz", b"/metrics", b"/internal/config", b"/internal/usage", b"/docs", b"/openapi.json", b"/nowhere")


def known() -> AdminKey:
    """Give a key that is there."""
    key = AdminKey()
    key.take(ADMIN_KEY)
    return key


def absent() -> AdminKey:
    """Give one whose file is not there yet."""
    key = AdminKey(b"/nowhere")  # type: ignore[arg-type]
    key.take(None)
    return key


def not_read() -> AdminKey:
    """Give one whose file was not looked at."""
    return AdminKey(b"/nowhere")  # type: ignore[arg-type]


def open_paths(guard: Guard, credential: bytes = b"") -> set[bytes]:
    """Give what a guard lets one read with this credential."""
    found = set()
    for path in PATHS:
        try:
            guard(path, credential)
        except Unauthenticated:
            continue
        found.add(path)
    return found


def without_keys() -> Any:
    """Give a config that lets nobody in."""
    return SimpleNamespace(keyring=NO_KEYS)


HEALTH = {b"/healthz"}
METRICS = {b"/metrics"}
CONFIG = {b"/internal/config"}


@pytest.mark.parametrize(
    ("key", "apart", "metrics_open", "everybody", "is_open"),
    [
        # On a port of its own: the operator's acknowledgement goes on until there is a key.
        (AdminKey(), True, True, False, HEALTH | METRICS | CONFIG),
        (absent(), True, True, False, HEALTH | METRICS | CONFIG),
        (not_read(), True, True, False, HEALTH | METRICS),
        (known(), True, True, False, HEALTH | METRICS),
        (known(), True, True, True, HEALTH | METRICS),
        (known(), True, False, False, HEALTH),
        # On the API's port, which clients reach: nothing, unless everybody is served and no key is asked for.
        (AdminKey(), False, True, False, HEALTH),
        (absent(), False, True, False, HEALTH),
        (AdminKey(), False, True, True, HEALTH | METRICS | CONFIG),
        (known(), False, True, True, HEALTH),
    ],
)
def test_admin_pages(key: AdminKey, apart: bool, metrics_open: bool, everybody: bool, is_open: set[bytes]) -> None:
    """What is open without the key; what is told of tenants never is. With it everything is."""
    guard = AdminGuard(key, apart=apart, metrics_open=metrics_open, everybody=everybody)
    assert open_paths(guard) == open_paths(guard, b"wrong" * 5) == is_open
    if key.standing.name == "KNOWN":
        assert open_paths(guard, ADMIN_KEY) == set(PATHS)


@pytest.mark.parametrize(
    "path", [b"/v1/models", b"/v1/responses/x", b"/docs", b"/healthz/", b"//healthz", b"/HEALTHZ", b""]
)
def test_pages_of_the_api_are_closed_unless_they_are_open(path: bytes) -> None:
    """Every path but the few that are open asks for a credential, also one that is no page."""
    guard = ApiGuard(Gate(), without_keys)
    with pytest.raises(Unauthenticated):
        guard(path, key_text("a").encode())
    for one in (b"/", b"/api/hello", b"/healthz", b"/readyz"):
        assert guard(one, b"") is None


def test_a_key_is_not_wrong_as_long_as_nobody_knows_the_keys() -> None:
    """Without a config yet who sends one is told to come back, on every page as where models are asked."""
    guard = ApiGuard(Gate(), lambda: None)
    with pytest.raises(Unconfigured) as told:
        guard(b"/v1/models", key_text("a").encode())
    assert (told.value.status, Reason.of(told.value)) == (503, Reason.NO_CONFIG)
    with pytest.raises(Unauthenticated):
        guard(b"/v1/models", b"")


def test_a_key_of_the_api_is_no_key_of_the_admin() -> None:
    """On one port, each part asks for its own credential; the admin's is none of the API's."""
    guard = ApiGuard(Gate(), without_keys, AdminGuard(known(), apart=False, metrics_open=True, everybody=False))
    for path, credential in product((b"/internal/config", b"/internal", b"/metrics"), (key_text("a").encode(), b"")):
        with pytest.raises(Unauthenticated):
            guard(path, credential)
    assert guard(b"/internal/config", ADMIN_KEY) is None
    with pytest.raises(Unauthenticated):
        guard(b"/v1/models", ADMIN_KEY)
    with pytest.raises(Unauthenticated):
        guard(b"/internals", ADMIN_KEY)


@pytest.mark.parametrize(
    ("key", "everybody", "credential", "told"),
    [
        (known(), True, b"", False), (known(), True, ADMIN_KEY, True),
        (known(), False, key_text("ann").encode(), False),
        (AdminKey(), True, b"", True), (AdminKey(), False, b"", False), (absent(), False, ADMIN_KEY, False),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_to_whom_the_admins_pages_are_open(
    key: AdminKey, everybody: bool, credential: bytes, told: bool
) -> None:
    """On the API's port: with the key, or where everybody is let in and there is none."""
    guard = AdminGuard(key, apart=False, metrics_open=True, everybody=everybody)
    assert guard.tells(credential) is told
