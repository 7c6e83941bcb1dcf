"""The gateway's Secrets are kept in step with those that models name, beside everything else."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from capstan_contract.names import CREDENTIAL_LABEL, CREDENTIAL_SHARDS_ANNOTATION
from capstan_operator.desired.naming import credential_file, origin_of
from capstan_operator.gateway_config.credentials import LINGER_SECONDS, CredentialStore
from capstan_operator.kube.errors import Forbidden, KubeError, Unavailable
from capstan_operator.names import FIELD_MANAGER
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import BuildSettings, Settings
from fakes.kube import FakeKube
from support.virtualtime import run_virtually

HOME, NAME = "capstan-system", "capstan-gateway-credentials"
BROKEN = Unavailable("get secrets: HTTP 500", status=500)


def encoded(value: str) -> str:
    """Give a value as a Secret has it."""
    return base64.b64encode(value.encode()).decode()


class World:
    """Secrets, hosted models that name them, and an operator that can be restarted."""

    def __init__(self, **settings: Any) -> None:
        self.kube = FakeKube()
        self.settings = Settings(build=BuildSettings(install_namespace=HOME), **settings)
        self.told: list[set[str]] = []
        self.references: dict[str, tuple[str, str, str]] = {}
        self.unchanged: set[ObjectKey] = set()
        self.kept: set[str] = set()
        self.origins: dict[str, str] = {}
        self.live_origins: dict[str, str] = {}
        self.task: asyncio.Task[None] | None = None

    def secret(self, name: str, value: str | None = "sk", *, labelled: bool = True) -> None:
        """Make or change a Secret of the team."""
        labels = {CREDENTIAL_LABEL: "true"} if labelled else {}
        metadata = {"name": name, "namespace": "team", "labels": labels}
        data = {"key": encoded(value)} if value else {}
        self.kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def model(self, name: str, secret: str, *, uid: str | None = None, url: str = "https://api.example") -> str:
        """Have a model name a Secret; give the file of its credential."""
        key = ObjectKey("team", name)
        file = credential_file(key, uid=uid or name, secret=secret, secret_key="key", url=url)
        self.origins[file] = origin_of(url)
        self.references = {f: r for f, r in self.references.items() if not f.startswith(f"team.{name}.")}
        self.references[file] = ("team", secret, "key")
        return file

    def start(self) -> None:
        """Start an operator."""
        self.store = CredentialStore(
            self.kube,
            self.settings,
            on_change=lambda keys: self.told.append({str(key) for key in keys}),
            rng=lambda: 0.5,
        )
        self.task = asyncio.create_task(self.store.run())

    async def stop(self) -> None:
        """End it."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def compile(self) -> float:
        """Do what the config lane does; give how long it has waited."""
        began = asyncio.get_running_loop().time()
        self.store.want(
            self.references,
            kept=self.kept,
            unchanged=self.unchanged,
            origins=self.origins,
            live_origins=self.live_origins,
        )
        await self.store.settle()
        return asyncio.get_running_loop().time() - began

    def values(self) -> dict[str, str]:
        """Give what all of the gateway's Secrets hold together."""
        return {
            file: base64.b64decode(value).decode()
            for (plural, namespace, name), secret in self.kube.objects.items()
            if plural == "secrets" and namespace == HOME and name.startswith(NAME)
            for file, value in secret["data"].items()
        }

    def reason(self, name: str) -> tuple[str | None, bool | None]:
        """Give what a model says: reason, and whether it answers all the same."""
        problem = self.store.problems.get(ObjectKey("team", name))
        return (problem.reason, problem.partial) if problem else (None, None)

    def break_read(self, name: str, fault: KubeError | Callable[[], Awaitable[None]] | None) -> None:
        """Let reads of a Secret of the team fail, hang, or be answered again."""
        if fault is None:
            self.kube.faults.pop(("get", "secrets", "team", name), None)
        else:
            self.kube.faults["get", "secrets", "team", name] = fault


def play(world: World, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario with an operator."""

    async def whole() -> None:
        world.start()
        try:
            await scenario()
        finally:
            await world.stop()

    run_virtually(whole())


async def hang() -> None:
    """Never answer."""
    await asyncio.sleep(10**6)


def test_a_credential_is_there_before_the_config_that_needs_it() -> None:
    """The config lane goes on as soon as the value is written."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        assert await world.compile() < 0.5
        assert world.values() == {file: "sk"}
        assert world.reason("api") == (None, None)
        writes = world.kube.calls["apply", "secrets"]
        await asyncio.sleep(600)
        assert world.kube.calls["apply", "secrets"] == writes, "at rest nothing is written"

    play(world, scenario)


@pytest.mark.parametrize("fault", [BROKEN, Forbidden("no", status=403), hang], ids=["500", "403", "hangs"])
def test_one_secret_that_cannot_be_read_keeps_nobody_waiting(fault: Any) -> None:
    """The config is written a second later at most, with the credentials of all the others; a second time it does not
    wait again. The model says what is wrong."""
    world = World()
    files = [world.model(f"m{number}", f"s{number}") for number in range(20)]
    for number in range(20):
        world.secret(f"s{number}")
    world.break_read("s7", fault)

    async def scenario() -> None:
        assert await world.compile() <= 1.0
        assert world.values() == dict.fromkeys(set(files) - {files[7]}, "sk")
        await asyncio.sleep(10)
        assert await world.compile() == 0.0
        assert world.reason("m7")[0] in ("SecretUnreadable", "SecretForbidden")
        assert [name for name in range(20) if world.reason(f"m{name}")[0]] == [7]

    play(world, scenario)


def test_many_that_hang_keep_a_new_one_waiting_only_so_long() -> None:
    """Reads that do not answer end, and are tried less and less often: another Secret is read in between."""
    world = World()
    for number in range(30):
        world.model(f"m{number}", f"s{number}")
        world.break_read(f"s{number}", hang)

    async def scenario() -> None:
        await world.compile()
        await asyncio.sleep(60)
        world.secret("good")
        file = world.model("good", "good")
        assert await world.compile() < 0.5
        assert world.values()[file] == "sk"
        assert world.kube.most_reading <= 8 + 4 + 1

    play(world, scenario)


def test_a_fault_of_the_api_server_takes_no_credential_away_also_not_after_a_restart() -> None:
    """What is in the gateway's Secret stays; a rotated value follows as soon as it can be read."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        await world.compile()
        world.break_read("keys", BROKEN)
        world.secret("keys", "rotated")
        await asyncio.sleep(3600)
        assert (world.values(), world.reason("api")) == ({file: "sk"}, ("SecretUnreadable", True))
        await world.stop()
        world.start()
        assert await world.compile() < 0.5
        await asyncio.sleep(3600)
        assert (world.values(), world.reason("api")) == ({file: "sk"}, ("SecretUnreadable", True))
        world.break_read("keys", None)
        await asyncio.sleep(400)
        assert (world.values(), world.reason("api")) == ({file: "rotated"}, (None, None))

    play(world, scenario)


def test_a_deleted_secret_ends_the_use_of_its_value_after_the_grace() -> None:
    """Until then the model answers, and says that it will not for long."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        await world.compile()
        world.kube.drop(SECRETS, "keys", "team")
        await asyncio.sleep(300)
        assert (world.values(), world.reason("api")) == ({file: "sk"}, ("SecretNotFound", True))
        await asyncio.sleep(600)
        assert (world.values(), world.reason("api")) == ({}, ("SecretNotFound", False))
        world.secret("keys", "again")
        await asyncio.sleep(60)
        assert (world.values(), world.reason("api")) == ({file: "again"}, (None, None))

    play(world, scenario)


def test_a_secret_without_the_label_is_not_sent_anywhere() -> None:
    """Whoever may write a model gets at no Secret that is not meant for models; the label makes it one, at once."""
    world = World()
    world.secret("database", "hunter2", labelled=False)
    file = world.model("api", "database")

    async def scenario() -> None:
        await world.compile()
        assert (world.values(), world.reason("api")) == ({}, ("SecretNotLabelled", False))
        world.secret("database", "hunter2")
        await asyncio.sleep(15)
        assert (world.values(), world.reason("api")) == ({file: "hunter2"}, (None, None))
        assert world.told == [{"team/api"}, {"team/api"}]

    play(world, scenario)


def test_the_requirement_can_be_turned_off_and_on_again() -> None:
    """What was in use before it was turned on stays in use, also after a restart and a rotation; what is new is not."""
    world = World(require_credential_label=False)
    world.secret("old", labelled=False)
    old = world.model("old", "old")

    async def scenario() -> None:
        await world.compile()
        assert world.values() == {old: "sk"}
        await world.stop()
        world.settings = Settings(build=BuildSettings(install_namespace=HOME))
        world.start()
        world.secret("old", "rotated", labelled=False)
        world.model("new", "old")
        await world.compile()
        await asyncio.sleep(120)
        assert world.values() == {old: "rotated"}
        assert (world.reason("old"), world.reason("new")) == (
            ("SecretNotLabelled", True),
            ("SecretNotLabelled", False),
        )

    play(world, scenario)


def former_secret(world: World, **values: str) -> None:
    """Put down the gateway's Secret as a former release has written it."""
    data = {f"team.{name}": encoded(value) for name, value in values.items()}
    world.kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": HOME}, "data": data})
    world.kube.owners |= {("secrets", HOME, NAME, file): FIELD_MANAGER for file in data}


def test_an_upgrade_takes_no_credential_away() -> None:
    """A value of the former release stays in use for the same reference, though its Secret has no label; its old name
    stays until no gateway can need it."""
    world = World()
    former_secret(world, api="sk", lost="gone", edited="theirs")
    world.secret("keys", labelled=False)
    world.secret("database", "hunter2", labelled=False)
    api = world.model("api", "keys")
    lost = world.model("lost", "deleted-long-ago")
    world.model("edited", "database")
    world.unchanged = {ObjectKey("team", "api"), ObjectKey("team", "lost")}
    world.live_origins = dict.fromkeys(("team.api", "team.lost", "team.edited"), "https://api.example:443")

    async def scenario() -> None:
        await world.compile()
        former = {"team.api": "sk", "team.lost": "gone", "team.edited": "theirs"}
        assert world.values() == {api: "sk", lost: "gone", **former}
        assert world.reason("api") == ("SecretNotLabelled", True)
        assert world.reason("lost") == ("SecretNotFound", True)
        assert world.reason("edited") == ("SecretNotLabelled", False), "an edit gets at no other Secret"
        await asyncio.sleep(LINGER_SECONDS + 100)
        assert world.values() == {api: "sk", lost: "gone"}
        world.secret("keys", "rotated")
        await asyncio.sleep(100)
        assert world.values()[api] == "rotated"
        assert world.reason("api") == (None, None)

    play(world, scenario)


def test_a_key_in_use_without_the_label_does_not_follow_another_url() -> None:
    """Whoever may write the model gets at no key of a Secret that nobody has released, by sending it elsewhere; back
    at the old host the key is in use as before, and with the label it goes anywhere."""
    world = World()
    former_secret(world, api="sk")
    world.secret("keys", labelled=False)
    there = world.model("api", "keys", url="https://api.example/v1")
    world.unchanged = {ObjectKey("team", "api")}
    world.live_origins = {"team.api": "https://api.example:443"}

    async def scenario() -> None:
        await world.compile()
        assert world.values() == {there: "sk", "team.api": "sk"}
        world.live_origins = {there: "https://api.example:443"}
        world.unchanged = set()
        elsewhere = world.model("api", "keys", url="https://evil.example/v1")
        await world.compile()
        world.unchanged = {ObjectKey("team", "api")}  # its new status
        await world.compile()
        await asyncio.sleep(30)
        assert elsewhere not in world.values()
        assert world.reason("api") == ("SecretNotLabelled", False)
        assert world.model("api", "keys", url="https://api.example/v2") == there
        await world.compile()
        assert world.values()[there] == "sk"
        world.model("api", "keys", url="https://evil.example/v1")
        world.secret("keys")
        await world.compile()
        await asyncio.sleep(30)
        assert world.values()[elsewhere] == "sk"

    play(world, scenario)


def test_a_model_that_was_edited_before_the_upgrade_keeps_its_key_where_it_was_sent() -> None:
    """Somebody has scaled it while no operator ran; a model that now goes elsewhere gets nothing."""
    world = World()
    former_secret(world, api="sk", moved="sk")
    world.secret("keys", labelled=False)
    api = world.model("api", "keys", url="https://api.example/v1")
    world.model("moved", "keys", url="https://evil.example/v1")
    world.live_origins = dict.fromkeys(("team.api", "team.moved"), "https://api.example:443")

    async def scenario() -> None:
        await world.compile()
        await asyncio.sleep(30)
        assert {file for file in world.values() if file.count(".") > 2} == {api}
        assert world.reason("moved") == ("SecretNotLabelled", False)

    play(world, scenario)


def test_a_key_in_use_does_not_follow_another_url_through_a_restart_either() -> None:
    """The next process finds the edited model as its status says, and the former value there still: what counts is
    where the former release has sent it."""
    world = World()
    former_secret(world, api="sk", other="theirs")
    world.secret("keys", labelled=False)
    elsewhere = world.model("api", "keys", url="https://evil.example/v1")
    world.live_origins = {"team.api": "https://api.example:443"}
    world.kept = {"team.other"}

    async def scenario() -> None:
        await world.compile()
        await world.stop()
        world.live_origins = {elsewhere: "https://evil.example:443"}
        world.unchanged = {ObjectKey("team", "api")}
        world.start()
        await world.compile()
        await asyncio.sleep(30)
        assert elsewhere not in world.values()
        assert world.reason("api") == ("SecretNotLabelled", False)

    play(world, scenario)


def test_former_values_go_one_by_one() -> None:
    """One entry that still names a value of the former release keeps that one, and no others."""
    world = World()
    former_secret(world, api="sk", other="theirs")
    world.kept = {"team.other"}

    async def scenario() -> None:
        await world.compile()
        assert world.values() == {"team.api": "sk", "team.other": "theirs"}
        await asyncio.sleep(LINGER_SECONDS + 100)
        assert world.values() == {"team.other": "theirs"}
        writes = world.kube.calls["apply", "secrets"]
        await asyncio.sleep(600)
        assert world.kube.calls["apply", "secrets"] == writes, "at rest nothing is written"
        world.kept = set()
        await world.compile()
        await asyncio.sleep(LINGER_SECONDS + 100)
        assert world.values() == {}

    play(world, scenario)


def test_going_back_to_the_former_release_takes_nothing_away() -> None:
    """Its apply, which knows nothing of the new names, leaves them: they are another manager's."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        await world.compile()
        await world.stop()
        metadata = {"name": NAME, "namespace": HOME}
        former = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"team.api": encoded("sk")}}
        await world.kube.apply(former)
        assert world.values() == {file: "sk", "team.api": "sk"}

    play(world, scenario)


def test_a_model_does_not_inherit_the_value_of_one_that_had_its_name() -> None:
    """Made anew, or edited to name another Secret, a model starts with no value, whatever its predecessor had."""
    world = World()
    world.secret("keys")
    first = world.model("api", "keys", uid="first")

    async def scenario() -> None:
        await world.compile()
        await world.stop()
        world.start()
        world.break_read("keys", BROKEN)
        second = world.model("api", "keys", uid="second")
        other = world.model("other", "none")
        await world.compile()
        await asyncio.sleep(30)
        assert not {second, other} & world.values().keys()
        assert world.reason("api") == ("SecretUnreadable", False)
        assert first in world.values(), "a gateway may be about to take up the config"
        await asyncio.sleep(LINGER_SECONDS + 100)
        assert world.values() == {}

    play(world, scenario)


def test_a_value_that_an_entry_needs_stays_though_no_model_asks_for_it() -> None:
    """An entry that is kept, of a faulty edit or of a namespace that cannot be read, keeps its credential."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        await world.compile()
        world.references, world.kept = {}, {file}
        await world.compile()
        await asyncio.sleep(10 * LINGER_SECONDS)
        assert world.values() == {file: "sk"}

    play(world, scenario)


def test_what_somebody_else_does_to_the_gateways_secret_is_put_right() -> None:
    """Deleted or edited, it is back within a minute or so."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")

    async def scenario() -> None:
        await world.compile()
        world.kube.drop(SECRETS, NAME, HOME)
        await asyncio.sleep(130)
        assert world.values() == {file: "sk"}

    play(world, scenario)


def test_a_gateway_secret_that_cannot_be_written_stops_no_config() -> None:
    """The models that lack a credential say so, and it is written as soon as it can be."""
    world = World()
    world.secret("keys")
    file = world.model("api", "keys")
    world.kube.faults["apply", "secrets", HOME, NAME] = BROKEN

    async def scenario() -> None:
        assert await world.compile() <= 1.0
        await asyncio.sleep(5)
        assert world.reason("api") == ("CredentialsNotWritten", False)
        world.kube.faults.clear()
        await asyncio.sleep(60)
        assert (world.values(), world.reason("api")) == ({file: "sk"}, (None, None))

    play(world, scenario)


def test_more_than_one_secret_can_hold_is_spread_over_several() -> None:
    """The first one says how many there are beside it, and is written last; at no moment is a value in none of them."""
    world = World()
    files = {}
    for number in range(150):
        world.secret(f"s{number}", f"{number:04}" + "x" * 8000)
        files[world.model(f"m{number}", f"s{number}")] = number
    lost: list[set[str]] = []
    known: set[str] = set()

    def look(_: Any) -> None:
        now = set(world.values())
        lost.append(known - now)
        known.update(now)

    world.kube.on_apply = look

    async def scenario() -> None:
        await world.compile()
        await asyncio.sleep(20)
        assert {file: int(value[:4]) for file, value in world.values().items()} == files
        first = world.kube.objects["secrets", HOME, NAME]
        assert first["metadata"]["annotations"][CREDENTIAL_SHARDS_ANNOTATION] == "1"
        for number in range(100):  # the values of those in the first Secret grow: some must move
            world.secret(f"s{number}", f"{number:04}" + "x" * 12000)
        await asyncio.sleep(200)
        assert all(len(value) == (12004 if files[file] < 100 else 8004) for file, value in world.values().items())
        sizes = [len(str(secret["data"])) for key, secret in world.kube.objects.items() if key[1] == HOME]
        assert len(sizes) == 3
        assert max(sizes) < 1024 * 1024
        assert not set().union(*lost)
        await world.stop()
        writes = world.kube.calls["apply", "secrets"]
        world.start()
        await world.compile()
        await asyncio.sleep(100)
        assert world.kube.calls["apply", "secrets"] == writes, "a restart moves and writes nothing"

    play(world, scenario)
