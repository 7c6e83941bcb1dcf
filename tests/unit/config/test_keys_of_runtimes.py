"""What becomes of a Runtime when API keys change."""

import pytest

from capstan_contract.config import ModelEntry, StaticBackend
from capstan_contract.keys import KeyEntry
from capstan_gateway.config.runtime import Runtime, View
from capstan_gateway.identity.principal import Principal
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.registry import EndpointRegistry
from support.keys import key_entry, key_text
from support.runtimes import Unanswered, compile_whole

MODELS = tuple(
    ModelEntry(id=f"ns/{name}", servedName=name, upstreamName=name, backend=StaticBackend(urls=())) for name in "abc"
)
A, B = key_entry("a"), key_entry("b", models=("b",))


class Blind(Unanswered):
    """Fails when a model is looked at."""

    def layers_of(self, entry: ModelEntry) -> tuple[object, ...]:
        """Fail."""
        pytest.fail(f"looked at {entry.id}")


def compiled(*keys: KeyEntry, previous: Runtime | None = None, models: tuple[ModelEntry, ...] = MODELS) -> Runtime:
    """Compile; with `previous` no model may be looked at."""
    registry = EndpointRegistry()
    return compile_whole(
        *models,
        endpoints_of=lambda _: EndpointSet(registry),
        previous=previous,
        keys=keys,
        answering=Blind() if previous else None,
    )


def knows(runtime: Runtime, name: str) -> bool:
    """Whether a key is valid."""
    return runtime.keyring.find(key_text(name).encode(), lambda: 0.0) is not None


def test_a_change_of_keys_looks_at_no_model() -> None:
    """Not of ten thousand either: what serves is the same, and another hash and other keys stand beside it."""
    before = compiled(A, B)
    after = compiled(B, previous=before)
    assert (knows(before, "a"), knows(after, "a"), knows(after, "b")) == (True, False, True)
    assert after.models is before.models
    assert after.auto is before.auto
    assert after.hash != before.hash
    assert after.whole is after
    assert before.whole is before
    again = compiled(A, B, previous=after)
    assert (knows(again, "a"), again.hash) == (True, before.hash)


def test_what_somebody_may_use_is_of_the_newest_config() -> None:
    """A view that was made before has the keys and the hash of before."""
    before = compiled(A, B)
    who = Principal(tenant="t", key="b", models=("b",))
    seen = before.seen_by(who)
    after = compiled(B, previous=before)
    assert after.seen_by(who) is not seen
    assert (after.seen_by(who).hash, after.seen_by(who).keyring) == (after.hash, after.keyring)
    assert set(after.seen_by(who).models) == {"b"}
    assert after.seen_by(who).whole is after
    assert (seen.hash, seen.whole) == (before.hash, before)


def test_a_change_of_keys_makes_no_view_anew() -> None:
    """To look through all models for each list of names that keys have would take the loop each time a key changes."""
    before = compiled(A, B)
    who = Principal(tenant="t", key="b", models=("b",))
    seen = before.seen_by(who)
    assert seen.listing
    after = compiled(B, previous=before)
    assert after.seen_by(who).full is seen.full
    assert after.seen_by(who) is after.seen_by(who)


def test_a_changed_model_is_looked_at() -> None:
    """Whatever becomes of the keys."""
    before = compiled(A)
    with pytest.raises(pytest.fail.Exception):
        compiled(A, B, previous=before, models=MODELS[:2])


def test_a_change_of_keys_copies_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand lists of names take no time of the loop when a key changes: each is made when it is used again."""
    before = compiled(A, B)
    for number in range(50):
        before.seen_by(Principal(tenant="t", key="b", models=(f"b{number}",)))
    made: list[object] = []
    real = View.__init__
    monkeypatch.setattr(View, "__init__", lambda view, *given: (made.append(view), real(view, *given))[1])
    after = compiled(B, previous=before)
    assert made == []
    assert after.seen_by(Principal(tenant="t", key="b", models=("b",))).find("b") is not None
    assert len(made) == 1
