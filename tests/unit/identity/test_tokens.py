"""From a token to whose it is: signatures, keys of issuers, and what is remembered."""

import base64
import hashlib
import hmac
import random
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from capstan_gateway.errors import IdentityUnavailable, Unauthenticated
from capstan_gateway.identity.claims import ALGORITHMS, ClaimNames
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.issuer import Issuer
from capstan_gateway.identity.jwks import KeySet, NoKeys, read_key_set
from capstan_gateway.identity.keyring import NO_KEYS
from capstan_gateway.identity.principal import NOBODY
from capstan_gateway.identity.signatures import read_key
from capstan_gateway.identity.tokens import Tokens, Undecided
from support.oidc import FakeIssuer, encoded, private_key, public_jwk

URL = "https://id.example.com"


class World:
    """An issuer whose keys are known, and who checks its tokens."""

    def __init__(self, algorithm: str = "EdDSA", *, keys: list[dict[str, Any]] | None = None, **options: Any) -> None:
        self.fake = FakeIssuer(algorithm)
        self.fake.url = URL
        self.now = 0.0

        async def fetch() -> bytes:
            raise AssertionError("nobody runs it")

        self.issuer = Issuer(
            URL,
            fetch,
            read_key,
            clock=lambda: self.now,
            rng=random.Random(1),  # noqa: S311 - no secret
            refresh_seconds=300,
            stale_seconds=3600,
        )
        published = self.fake.keys()["keys"] if keys is None else keys
        self.issuer.keys = read_key_set(orjson.dumps({"keys": published}), read_key) if published else None
        self.issuer._began_at = 0.0
        self.clock = time.time
        self.tokens = Tokens(
            [self.issuer], audiences=("capstan",), names=ClaimNames(), leeway=30, wall=lambda: self.clock(), **options
        )

    def takes(self, token: str | bytes) -> bool:
        """Say whether a token is taken."""
        try:
            self.tokens.check(token.encode() if isinstance(token, str) else token)
        except Unauthenticated:
            return False
        return True


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_three_algorithms(algorithm: str) -> None:
    """Signed by the issuer's key it is taken; by another key, with another byte, or without a signature it is not."""
    world = World(algorithm)
    token = world.fake.sign()
    assert world.takes(token)
    assert world.tokens.find(token.encode()) == world.tokens.check(token.encode())
    head, claims, signature = token.split(".")
    assert not world.takes(world.fake.sign(number=1, headers={"kid": "key-0"}))
    assert not world.takes(f"{head}.{encoded({'iss': URL, 'aud': 'capstan', 'sub': 'eve', 'exp': 9e9})}.{signature}")
    assert not world.takes(f"{head}.{claims}.")
    assert not world.takes(f"{head}.{claims}.{'A' * len(signature)}")


def test_no_signature_and_the_public_key_as_a_secret() -> None:
    """The two oldest tricks: `none`, and HMAC with what everybody knows."""
    world = World("RS256")
    claims = encoded({"iss": URL, "aud": "capstan", "sub": "eve", "exp": 9e9})
    for name in ("none", "None", "NONE", "nOnE"):
        assert not world.takes(f"{encoded({'alg': name, 'kid': 'key-0'})}.{claims}.")
    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), orjson.dumps(world.fake.keys()["keys"][0])):
        signed = f"{encoded({'alg': 'HS256', 'kid': 'key-0'})}.{claims}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert not world.takes(f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


def test_a_key_is_for_one_algorithm() -> None:
    """A token that names another one than its key is for finds no key."""
    both = [
        public_jwk(private_key(name), name, kid="same", alg=None) for name in ("RS256", "ES256")
    ]  # fmt: skip
    world = World("RS256", keys=both)
    other = FakeIssuer("EdDSA")
    other.url = URL
    assert world.takes(world.fake.sign(headers={"kid": "same"}))
    assert not world.takes(other.sign(headers={"kid": "same"}))


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"}, {"alg": "RS512"}, {"alg": "HS256"}, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": None}, {"kty": 5},
        {"n": "AQAB"}, {"n": None}, {"d": "AQAB"}, {"key_ops": ["encrypt"]}, {"kty": "EC"}, {"e": {}},
    ],
)  # fmt: skip
def test_keys_that_are_not_taken(change: dict[str, Any]) -> None:
    """Of another use, another algorithm or kind, with a secret in it, too short, or damaged."""
    good = public_jwk(private_key("RS256"), "RS256")
    assert read_key(good) is not None
    assert read_key({name: value for name, value in {**good, **change}.items() if value is not None}) is None


def test_weak_keys_and_other_curves_are_not_taken() -> None:
    """RSA below 2048 bits, and curves of other algorithms."""
    weak = public_jwk(rsa.generate_private_key(65537, 1024), "RS256")  # noqa: S505 - that is the point
    assert read_key(weak) is None
    assert read_key(public_jwk(ec.generate_private_key(ec.SECP384R1()), "ES256", alg=None)) is None
    assert read_key({"kty": "OKP", "crv": "X25519", "x": "AA"}) is None


def test_a_set_of_keys() -> None:
    """Keys by id and algorithm; without an id the only one of the algorithm; others are passed over."""
    one, two = (public_jwk(private_key("EdDSA", number), "EdDSA", kid=f"k{number}") for number in (1, 2))
    rs = public_jwk(private_key("RS256"), "RS256")

    def read(*keys: Any) -> KeySet:
        return read_key_set(orjson.dumps({"keys": keys}), read_key)

    assert read(one, {"kty": "oct"}, "nonsense", {"kid": 5}).find(None, "EdDSA") is not None
    both = read(one, two, rs)
    assert both.find(None, "EdDSA") is None
    assert both.find("k1", "EdDSA") is not None
    assert both.find("k1", "RS256") is None
    assert both.find("k3", "EdDSA") is None
    assert both.find(None, "RS256") is not None
    for text in (b"", b"[]", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[{"kty":"oct"}]}', b"\xff"):
        with pytest.raises(NoKeys):
            read_key_set(text, read_key)


@pytest.mark.parametrize("claims", [{"iss": "https://else"}, {"iss": None}, {"aud": "x"}, {"exp": 5}, {"sub": None}])
def test_a_signature_alone_is_not_enough(claims: dict[str, Any]) -> None:
    """Another issuer, another audience, another time, nobody."""
    world = World()
    assert not world.takes(world.fake.sign(**claims))
    assert len(world.tokens) == 0


def test_what_is_remembered_is_forgotten_in_time() -> None:
    """When it expires, when there are too many, and when the keys are other ones; the token itself is nowhere."""
    world = World(most=2)
    tokens = [world.fake.sign(sub=name).encode() for name in "abc"]
    for token in tokens:
        world.tokens.check(token)
    assert [world.tokens.find(token) is not None for token in tokens] == [False, True, True]
    real = world.clock
    world.clock = lambda: real() + 3600 + 31
    assert world.tokens.find(tokens[2]) is None
    ends = [until for _, until in world.tokens._known.values()]
    world.clock = lambda: ends[-1]
    assert world.tokens.find(tokens[2]) is None
    world.clock = real
    assert world.tokens.find(tokens[2]) is not None
    assert all(token not in key for token in tokens for key in world.tokens._known)
    world.issuer.on_changed()
    assert world.tokens.find(tokens[2]) is None


def test_one_name_of_two_issuers_is_two_users() -> None:
    """They share no limits, no budget and no history."""
    one, other = World(), World()
    other.fake.url = "https://other.example.com"
    other.issuer.name = other.fake.url  # type: ignore[misc]
    tokens = Tokens([one.issuer, other.issuer], audiences=("capstan",), names=ClaimNames(), leeway=30, wall=time.time)
    first, second = (tokens.check(world.fake.sign(sub="ann").encode()) for world in (one, other))
    assert len({first.user, second.user}) == len({first.tenant, second.tenant}) == 2


def test_an_unknown_key_may_be_a_new_one() -> None:
    """Then it is not decided yet, as long as the keys may be fetched; else it is refused at once."""
    world = World()
    new = world.fake.sign(number=7).encode()
    world.now = 100.0
    with pytest.raises(Undecided) as undecided:
        world.tokens.check(new)
    assert isinstance(undecided.value.otherwise, Unauthenticated)
    world.now = 1.0
    with pytest.raises(Unauthenticated):
        world.tokens.check(new)


def test_without_keys_nobody_can_be_told() -> None:
    """That is a fault of ours, and the client is told to come back."""
    world = World(keys=[])
    token = world.fake.sign().encode()
    with pytest.raises(IdentityUnavailable):
        world.tokens.check(token)
    world.now = 100.0
    with pytest.raises(Undecided) as undecided:
        world.tokens.check(token)
    assert isinstance(undecided.value.otherwise, IdentityUnavailable)


def test_the_gate_takes_keys_and_tokens() -> None:
    """Where everybody is served one that is not valid is ignored, and one that is says who it is."""
    world = World()
    closed, opened = Gate(tokens=world.tokens), Gate(tokens=world.tokens, everybody=True)
    good, bad = world.fake.sign().encode(), world.fake.sign(aud="x").encode()
    assert closed.admit(good, NO_KEYS).user == opened.admit(good, NO_KEYS).user == "ann"
    assert opened.admit(bad, NO_KEYS) is NOBODY
    with pytest.raises(Unauthenticated):
        closed.admit(bad, NO_KEYS)


def test_a_token_s_word_outlives_it_only_while_its_issuer_is_trusted() -> None:
    """Work that was begun with a token goes on when it has expired, and not when tokens of its issuer are refused."""
    world, other = World(), World()
    gate = Gate(tokens=world.tokens)
    who = gate.admit(world.fake.sign().encode(), NO_KEYS)
    assert who.issuer == URL
    assert gate.still(who, NO_KEYS, by_key=False) is who
    other.tokens.issuers.clear()
    for later in (Gate(tokens=other.tokens), Gate()):
        assert later.still(who, NO_KEYS, by_key=False) is None


def test_a_token_that_was_checked_costs_no_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its hash, and nothing of it is read."""
    world = World()
    gate, token = Gate(tokens=world.tokens), world.fake.sign().encode()
    first = gate.admit(token, NO_KEYS)
    never: Callable[..., Any] = lambda *_: pytest.fail("it was checked anew")  # noqa: E731
    monkeypatch.setattr(world.tokens, "check", never)
    assert gate.admit(token, NO_KEYS) is first
