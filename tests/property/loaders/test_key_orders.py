"""API keys in whatever order the world, the watch and reads come."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capstan_operator.kube.errors import Unavailable
from capstan_operator.loaders.api_keys import ApiKeys
from support.keysecrets import SecretKube

SALT = "0" * 32
WHAT = ("put", "delete", "deliver", "read", "read and deliver", "fail", "suspect", "relist")
STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.sampled_from("abc")), max_size=40)


class Story:
    """Secrets, the events about them that are on their way, and what is known."""

    def __init__(self) -> None:
        self.kube = SecretKube()
        self.keys = ApiKeys(self.kube, namespace="capstan-system")  # type: ignore[arg-type]
        self.events: list[tuple[str | None, dict[str, Any]]] = []

    async def step(self, what: str, name: str) -> None:
        """Do one thing."""
        match what:
            case "put":
                kind = "MODIFIED" if name in self.kube.secrets else "ADDED"
                self.events.append((kind, self.kube.put(name, f"sk-capstan-0123456789-{name}")))
            case "delete" if name in self.kube.secrets:
                self.events.append(("DELETED", self.kube.secrets.pop(name)["metadata"]))
            case "deliver" if self.events:
                self.keys.saw(*self.events.pop(0))
            case "read":
                await self.keys.read(SALT)
            case "read and deliver":
                self.kube.before_answer = self._deliver_all
                await self.keys.read(SALT)
                self.kube.before_answer = lambda: None
            case "fail":
                self.kube.fails = True
                if self.keys.has_news:
                    with pytest.raises(Unavailable):
                        await self.keys.read(SALT)
                self.kube.fails = False
            case "suspect":
                self.keys.suspect_all()
            case "relist":
                self.events.clear()  # what the watch has missed is in no event
                self.events += [(None, secret["metadata"]) for secret in self.kube.secrets.values()]
                self.keys.suspect_all()

    def _deliver_all(self) -> None:
        while self.events:
            self.keys.saw(*self.events.pop(0))

    @property
    def there(self) -> set[tuple[str, str]]:
        """Names and uids of the Secrets that there are."""
        return {(name, secret["metadata"]["uid"]) for name, secret in self.kube.secrets.items()}

    @property
    def known(self) -> set[str] | None:
        """Whose keys are valid."""
        compiled = self.keys.compile(now=0)
        return None if compiled is None else {entry.id for entry in compiled.entries}


@given(STEPS)
def test_in_the_end_the_keys_are_those_that_there_are(steps: list[tuple[str, str]]) -> None:
    """Once all events have come and nothing is left to read, whatever has failed before; and it does not read for
    ever."""

    async def story() -> None:
        world = Story()
        for what, name in steps:
            await world.step(what, name)
        for what in ("read", "read", "put", "deliver", "fail"):  # nothing is listed after this failure
            await world.step(what, "a")
        while world.events:
            await world.step("deliver", "")
        for _ in range(3):
            if world.keys.has_news:
                await world.keys.read(SALT)
        assert not world.keys.has_news
        assert world.known == set(world.kube.secrets)

    asyncio.run(story())


@given(STEPS, st.sampled_from("abc"))
def test_what_is_seen_gone_stays_gone_whatever_fails(steps: list[tuple[str, str]], name: str) -> None:
    """From the event on, until there is another one of the name."""

    async def story() -> None:
        world = Story()
        for what, of in steps:
            await world.step(what, of)
        while world.events:
            await world.step("deliver", "")
        await world.step("put", name)
        await world.step("deliver", "")
        await world.step("read", "")
        await world.step("delete", name)
        await world.step("deliver", "")
        assert name not in (world.known or ())
        await world.step("fail", "")
        assert name not in (world.known or ())
        await world.step("read", "")
        assert name not in (world.known or ())

    asyncio.run(story())


@given(STEPS)
@example([("put", "a"), ("read and deliver", "")])
@example([("read", ""), ("put", "a"), ("deliver", ""), ("read", ""), ("relist", ""), ("read and deliver", "")])
def test_a_key_that_stays_there_is_never_out(steps: list[tuple[str, str]]) -> None:
    """Once it was valid, or when it was there at the first list: whatever is shown while Secrets are read."""

    async def story() -> None:
        world, valid = Story(), set[tuple[str, str]]()
        for what, of in steps:
            is_first = world.known is None
            before = world.there
            await world.step(what, of)
            if (known := world.known) is None:
                continue
            owed = before if is_first else valid
            assert {name for name, _ in owed & world.there} <= known
            valid = {
                (name, uid) for name, uid in world.there if (found := world.keys.secret(name)) and found.uid == uid
            }

    asyncio.run(story())
