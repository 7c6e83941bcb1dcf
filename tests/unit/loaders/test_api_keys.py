"""What is known of API keys, whatever the watch and the API server say."""

import pytest

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import KeyEntry
from capstan_operator.errors import Retryable
from capstan_operator.kube.errors import Unavailable
from capstan_operator.loaders.api_keys import MOST_DOUBTED, ApiKeys
from support.keysecrets import SecretKube, key_secret

SALT = "0" * 32


def names(keys: ApiKeys) -> set[str] | None:
    """Whose keys are valid."""
    compiled = keys.compile(now=0)
    return None if compiled is None else {entry.id for entry in compiled.entries}


async def listed(kube: SecretKube, *secrets: str) -> ApiKeys:
    """Give the keys after a first list."""
    for name in secrets:
        kube.put(name, f"sk-capstan-0123456789-{name}")
    keys = ApiKeys(kube, namespace="capstan-system")  # type: ignore[arg-type]
    await keys.read(SALT)
    kube.looks.clear()
    return keys


async def test_a_key_that_is_seen_deleted_is_gone_before_anything_is_read() -> None:
    """Nothing has to answer for a key to be revoked."""
    kube = SecretKube()
    keys = await listed(kube, "a", "b")
    kube.fails = True
    assert keys.saw("DELETED", kube.secrets.pop("a")["metadata"])
    assert names(keys) == {"b"}


async def test_a_changed_key_is_looked_at_alone() -> None:
    """What one key costs does not depend on how many there are."""
    kube = SecretKube()
    keys = await listed(kube, "a", "b")
    assert not keys.saw("MODIFIED", kube.put("a", "another-key-of-twenty-characters"))
    assert not keys.saw("ADDED", kube.put("c", "a-third-key-of-twenty-characters"))
    await keys.read(SALT)
    assert sorted(kube.looks) == ["a", "c"]
    assert names(keys) == {"a", "b", "c"}
    assert not keys.has_news


async def test_what_is_known_already_is_not_looked_at() -> None:
    """The first list of a watch shows what was read before."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    keys.saw("ADDED", kube.secrets["a"]["metadata"])
    assert not keys.has_news


async def test_a_watch_that_begins_anew_has_everything_listed() -> None:
    """What it has missed is in no event."""
    kube = SecretKube()
    keys = await listed(kube, "a", "b")
    del kube.secrets["b"]
    keys.saw(None, kube.put("a", "another-key-of-twenty-characters"))
    await keys.read(SALT)
    assert kube.looks == ["*", "b"]
    assert names(keys) == {"a"}


async def test_a_list_that_fails_takes_nothing_away() -> None:
    """What was known stays known, and is read again as soon as that is possible."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    keys.suspect_all()
    kube.fails = True
    with pytest.raises(Unavailable):
        await keys.read(SALT)
    assert names(keys) == {"a"}
    assert keys.has_news
    kube.fails = False
    await keys.read(SALT)
    assert not keys.has_news


async def test_a_look_that_fails_is_made_again() -> None:
    """Without it the change would be known only after the next list."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    keys.saw("ADDED", kube.put("b", "another-key-of-twenty-characters"))
    kube.fails = True
    with pytest.raises(Unavailable):
        await keys.read(SALT)
    kube.fails = False
    await keys.read(SALT)
    assert names(keys) == {"a", "b"}


@pytest.mark.parametrize("whole", [True, False])
async def test_a_key_that_goes_while_it_is_being_read_does_not_come_back(whole: bool) -> None:
    """The answer is of before its end."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    if whole:
        keys.suspect_all()
    else:
        keys.saw("MODIFIED", kube.put("a", "another-key-of-twenty-characters"))

    def goes() -> None:
        kube.before_answer = lambda: None
        keys.saw("DELETED", kube.secrets.pop("a")["metadata"])

    kube.before_answer = goes
    await keys.read(SALT)
    assert names(keys) == set()
    await keys.read(SALT)
    assert names(keys) == set()
    assert not keys.has_news


@pytest.mark.parametrize("type_", [None, "ADDED", "MODIFIED"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_key_that_is_shown_while_a_list_is_under_way_is_in(type_: str | None, is_first: bool) -> None:
    """A watch that opens beside a list shows every key, and takes none away."""
    kube = SecretKube()
    keys = await listed(kube, "a") if not is_first else ApiKeys(kube, namespace="capstan-system")  # type: ignore[arg-type]
    kube.put("a", "another-key-of-twenty-characters")
    kube.put("b", "a-third-key-of-twenty-characters")
    keys.suspect_all()

    def opens() -> None:
        kube.before_answer = lambda: None
        for secret in kube.secrets.values():
            keys.saw(type_, secret["metadata"])

    kube.before_answer = opens
    await keys.read(SALT)
    assert names(keys) == {"a", "b"}


async def test_only_the_secret_that_was_seen_deleted_is_kept_out_of_a_list() -> None:
    """One that was made anew under the name is a key, and neither of two that went comes back."""
    kube = SecretKube()
    keys = await listed(kube, "a", "b")
    keys.suspect_all()

    def goes() -> None:
        kube.before_answer = lambda: None
        keys.saw("DELETED", {**kube.secrets["a"]["metadata"], "uid": "of-before"})
        for uid in (kube.secrets["b"]["metadata"]["uid"], "of-the-next"):
            keys.saw("DELETED", {**kube.secrets["b"]["metadata"], "uid": uid})

    kube.before_answer = goes
    await keys.read(SALT)
    assert names(keys) == {"a"}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_list_that_lacks_keys_is_not_believed(is_first: bool) -> None:
    """A key that nobody has seen deleted is asked for by name before it is taken from its holder."""
    kube = SecretKube()
    keys = await listed(kube, *(f"k{number}" for number in range(20)))
    live = names(keys) or set()
    if is_first:
        keys = ApiKeys(kube, namespace="capstan-system")  # type: ignore[arg-type]
    keys.suspect_all()
    kube.hidden = {f"k{number}" for number in range(5, 20)}
    with pytest.raises(Retryable):
        await keys.read(SALT, live=live)
    assert len(kube.looks) <= 1 + MOST_DOUBTED
    assert names(keys) == (None if is_first else live)
    assert keys.has_news
    kube.hidden = set()
    await keys.read(SALT, live=live)
    assert names(keys) == live


@pytest.mark.parametrize("is_first", [True, False])
async def test_keys_that_went_while_nobody_watched_are_gone(is_first: bool) -> None:
    """They are not there when they are asked for, or are keys no longer; one that was seen deleted is not asked for."""
    kube = SecretKube()
    keys = await listed(kube, "a", "b", "c", "d")
    if is_first:
        keys = ApiKeys(kube, namespace="capstan-system")  # type: ignore[arg-type]
    del kube.secrets["a"]
    kube.secrets["b"]["metadata"]["labels"] = {}
    keys.saw("DELETED", kube.secrets.pop("c")["metadata"])
    keys.suspect_all()
    await keys.read(SALT, live={"a", "b", "c", "d"})
    assert names(keys) == {"d"}
    assert sorted(kube.looks) == ["*", "a", "b"]


async def test_an_event_of_a_former_secret_of_the_name_takes_nothing_away() -> None:
    """Who deletes a Secret and makes it anew may be seen in the wrong order."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    assert not keys.saw("DELETED", {**kube.secrets["a"]["metadata"], "uid": "of-before"})
    assert names(keys) == {"a"}


async def test_a_label_that_is_taken_away_revokes() -> None:
    """The watch by the label says DELETED then; a look must say the same."""
    kube = SecretKube()
    keys = await listed(kube, "a")
    keys.saw("MODIFIED", kube.put("a"))
    kube.secrets["a"]["metadata"]["labels"] = {}
    await keys.read(SALT)
    assert names(keys) == set()


async def test_before_the_first_list_the_live_keys_stay_but_those_seen_gone() -> None:
    """An operator that may not list Secrets takes nobody's key away, and still revokes."""
    kube = SecretKube()
    kube.fails = True
    keys = ApiKeys(kube, namespace="capstan-system")  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await keys.read(SALT)
    live = GatewayConfig.build(
        (), keys=[KeyEntry(id=name, digest=name * 64, tenant="t") for name in ("a", "b")], key_salt=SALT
    )
    keys.saw("DELETED", key_secret("a")["metadata"])
    assert names(keys) is None
    assert {key.id for key in keys.kept(live)} == {"b"}


async def test_many_changes_are_read_as_one_list() -> None:
    """Not one by one."""
    kube = SecretKube()
    keys = await listed(kube)
    for number in range(100):
        keys.saw("ADDED", kube.put(f"k{number}", f"sk-capstan-0123456789-{number}"))
    await keys.read(SALT)
    known = names(keys)
    assert kube.looks == ["*"]
    assert known is not None
    assert len(known) == 100
