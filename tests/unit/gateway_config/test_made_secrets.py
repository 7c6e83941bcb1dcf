"""The key of users' hashes is made once, and stays."""

import asyncio
import base64
from typing import Any

import pytest

from capstan_contract.keys import digest_of
from capstan_contract.names import (
    ADMIN_KEY_FIELD,
    API_KEY_LABEL,
    KEY_MODELS_ANNOTATION,
    KEY_TENANT_ANNOTATION,
    PRIVACY_KEY,
)
from capstan_operator.desired.api_keys import read_key
from capstan_operator.gateway_config.made_secrets import ADMIN, PRIVACY, MadeSecret, scorer_purpose
from capstan_operator.kube.errors import Forbidden
from capstan_operator.resources.api_resource import SECRETS
from fakes.kube import FakeKube
from support.virtualtime import run_virtually

HOME, NAME = "capstan-system", "capstan-gateway-privacy"


def holder(kube: FakeKube, **options: Any) -> MadeSecret:
    """Whoever sees to the key."""
    return MadeSecret(kube, PRIVACY, name=NAME, namespace=HOME, rng=lambda: 0.5, **options)


def key_in(kube: FakeKube) -> bytes | None:
    """What is in the Secret."""
    found = kube.objects.get((SECRETS.plural, HOME, NAME))
    value = None if found is None else found.get("data", {}).get(PRIVACY_KEY)
    return None if value is None else base64.b64decode(value)


async def test_a_key_is_made_once() -> None:
    """A random one of 32 bytes, as text; whoever looks again, also in a new process, changes nothing."""
    kube = FakeKube()
    await holder(kube).ensure()
    key = key_in(kube)
    assert key is not None
    assert len(bytes.fromhex(key.decode())) == 32
    await holder(kube).ensure()
    assert (key_in(kube), kube.calls["apply", SECRETS.plural]) == (key, 1)
    other = FakeKube()
    await holder(other).ensure()
    assert key_in(other) != key


@pytest.mark.parametrize("data", [None, {}, {PRIVACY_KEY: ""}, {PRIVACY_KEY: "!!"}, {PRIVACY_KEY: "c2hvcnQ="}])
async def test_a_secret_without_a_key_gets_one(data: dict[str, str] | None) -> None:
    """One that somebody made bare, or with what no gateway takes."""
    kube = FakeKube()
    kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
    await holder(kube, make=lambda: b"k" * 32).ensure()
    assert key_in(kube) == b"k" * 32


async def test_a_key_of_somebody_else_stays() -> None:
    """Sixteen bytes are enough."""
    kube = FakeKube()
    data = {PRIVACY_KEY: base64.b64encode(b"k" * 16).decode()}
    kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
    await holder(kube).ensure()
    assert (key_in(kube), kube.calls["apply", SECRETS.plural]) == (b"k" * 16, 0)


@pytest.mark.parametrize(
    ("value", "is_key"),
    [(b"\xff" * 32, False), (b"a b" * 8, False), (b"short\n" * 9, False), (b"short\n" + b"k" * 16, True)],
)
async def test_a_credential_is_one_that_can_be_sent(
    value: bytes, is_key: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that no header carries would lock the operator out of the gateways' pages for ever: it is said, and made
    anew unless the Secret is somebody else's."""
    kube = FakeKube()
    data = {ADMIN_KEY_FIELD: base64.b64encode(value).decode()}
    kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
    holding = MadeSecret(kube, ADMIN, name=NAME, namespace=HOME, make=lambda: b"m" * 32)
    await holding.ensure()
    assert ("m" * 32 in holding.keys) == (not is_key)
    assert any("cannot be used" in record.message for record in caplog.records) == (not is_key)
    assert kube.calls["apply", SECRETS.plural] == (0 if is_key else 1)


def test_it_is_tried_again_and_made_anew_when_it_is_gone() -> None:
    """A Role of a former release is no end of it, nor is somebody who deletes the Secret; nor does it spin."""

    async def story() -> None:
        kube = FakeKube()
        kube.faults["get", SECRETS.plural, HOME, NAME] = Forbidden("no", status=403)
        task = asyncio.create_task(holder(kube).run())
        await asyncio.sleep(60)
        assert (key_in(kube), 3 < kube.calls["get", SECRETS.plural] < 12) == (None, True)
        kube.faults.clear()
        await asyncio.sleep(300)
        first = key_in(kube)
        assert first
        kube.drop(SECRETS, NAME, HOME)
        await asyncio.sleep(700)
        assert key_in(kube) not in (None, first)
        task.cancel()

    run_virtually(story())


async def test_nobody_wants_one() -> None:
    """Where the chart names a Secret of the user's own: nothing is done, and the operator goes on."""
    kube = FakeKube()
    task = asyncio.create_task(MadeSecret(kube, PRIVACY, name="", namespace=HOME).run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    assert not kube.calls
    task.cancel()


def admin_secret(*lines: str) -> dict[str, Any]:
    """The Secret of the admin pages with these lines."""
    data = {ADMIN.field: base64.b64encode("\n".join(lines).encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data}


async def test_whoever_asks_the_gateway_knows_the_key_that_was_made() -> None:
    """Nothing is known before the first look."""
    kube = FakeKube()
    secret = MadeSecret(kube, ADMIN, name=NAME, namespace=HOME)
    assert secret.keys == ()
    await secret.ensure()
    assert secret.keys == (base64.b64decode(kube.objects[SECRETS.plural, HOME, NAME]["data"][ADMIN.field]).decode(),)


async def test_a_key_that_was_replaced_is_known_beside_the_new_one() -> None:
    """A gateway reads its file later than the operator the Secret; what is no header's value is never sent."""
    kube = FakeKube()
    secret = MadeSecret(kube, ADMIN, name=NAME, namespace=HOME)
    kube.put(admin_secret("a" * 16, "b" * 16, "c d e f g h i j k l m"))
    await secret.ensure()
    assert secret.keys == ("a" * 16, "b" * 16)
    kube.put(admin_secret("c" * 16))
    await secret.ensure()
    assert secret.keys == ("c" * 16, "a" * 16)


def test_a_doubt_has_the_secret_looked_at_soon_and_not_too_often() -> None:
    """Many replicas may refuse at once."""

    async def story() -> None:
        kube = FakeKube()
        kube.put(admin_secret("a" * 16))
        secret = MadeSecret(kube, ADMIN, name=NAME, namespace=HOME)
        task = asyncio.create_task(secret.run())
        await asyncio.sleep(1)
        kube.put(admin_secret("b" * 16))
        for _ in range(50):
            secret.doubt()
            await asyncio.sleep(0.1)
        assert secret.keys == ("b" * 16, "a" * 16)
        assert kube.calls["get", SECRETS.plural] == 2
        task.cancel()

    run_virtually(story())


async def test_a_secret_that_nobody_can_use_has_an_event() -> None:
    """Once for as long as it stays so: somebody else holds it, and gateways ask for a key that nobody has."""

    class Held(FakeKube):
        async def apply(self, *args: Any, **options: Any) -> Any:
            raise Forbidden("held by another")

    told: list[str] = []
    kube = Held()
    data = {PRIVACY_KEY: base64.b64encode(b"short").decode()}
    kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
    made = holder(kube, tell=lambda type_, reason, note: told.append(f"{type_} {reason} {note}"))
    for _ in range(2):
        with pytest.raises(Forbidden):
            await made.ensure()
    assert len(told) == 1
    assert told[0].startswith("Warning SecretUnusable")
    assert NAME in told[0]


def test_who_follows_reads_it_and_never_makes_it() -> None:
    """A new one is known a moment after somebody doubts; once the same process makes it, only one looks."""

    async def story() -> None:
        kube = FakeKube()
        following = MadeSecret(kube, ADMIN, name=NAME, namespace=HOME, make=lambda: b"m" * 32)
        tasks = [asyncio.create_task(following.follow())]
        await asyncio.sleep(700)
        assert (following.keys, kube.calls["apply", SECRETS.plural]) == ((), 0)
        data = {ADMIN_KEY_FIELD: base64.b64encode(b"k" * 32).decode()}
        kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
        following.doubt()
        await asyncio.sleep(6)
        assert following.keys == ("k" * 32,)
        kube.drop(SECRETS, NAME, HOME)
        tasks.append(asyncio.create_task(following.run()))
        await asyncio.sleep(1)
        assert following.keys == ("m" * 32, "k" * 32)
        await asyncio.sleep(700)
        reads = kube.calls["get", SECRETS.plural]
        await asyncio.sleep(1200)
        assert kube.calls["get", SECRETS.plural] == reads + 2
        for task in tasks:
            task.cancel()

    run_virtually(story())


@pytest.mark.parametrize("judges", ["", "judge, other-*"])
async def test_the_scorers_key_is_an_api_key_of_its_own_tenant(judges: str) -> None:
    """Gateways take it as any key of a client, and for no model but its judges where those are named."""
    kube = FakeKube()
    holder = MadeSecret(
        kube, scorer_purpose(judges), name="scorer", namespace=HOME, make=lambda: b"sk-capstan-" + b"k" * 32
    )
    await holder.ensure()
    found = kube.objects[SECRETS.plural, HOME, "scorer"]
    entry = read_key(found, "0" * 32).entry
    assert entry.digest == digest_of("0" * 32, b"sk-capstan-" + b"k" * 32)
    assert (entry.tenant, entry.models) == ("capstan-scorer", ("judge", "other-*") if judges else ())
    assert found["metadata"]["labels"][API_KEY_LABEL] == "true"
    annotations = {KEY_TENANT_ANNOTATION: "capstan-scorer"} | ({KEY_MODELS_ANNOTATION: judges} if judges else {})
    assert found["metadata"]["annotations"] == annotations
