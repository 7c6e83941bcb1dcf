"""How old a LIST may be: never older than what was seen."""

import pytest

from capstan_operator.kube.errors import Unavailable, VersionTooNew, error_of
from capstan_operator.kube.versions import Versions
from capstan_operator.resources.api_resource import PODS, SERVICES
from capstan_operator.resources.resource import Manifest, ObjectKey

KEY = ObjectKey("n", "a")


def thing(name: str, version: str) -> Manifest:
    """Give an object of some version."""
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": version}}


def test_a_bound_is_the_newest_of_writes_events_and_lists_of_the_kind() -> None:
    """What was seen of another kind says nothing, and an old event lowers nothing."""
    versions = Versions()
    assert versions.newest(PODS) is None
    versions.wrote(PODS, thing("a", "7"))
    versions.saw(PODS, thing("b", "12"))
    versions.saw(PODS, thing("a", "9"))
    assert (versions.newest(PODS), versions.newest(SERVICES)) == ("12", None)
    versions.listed(PODS, "20")
    assert versions.newest(PODS) == "20"
    assert (versions.news(PODS), versions.of(PODS, KEY)) == (12, 9)


def test_versions_are_numbers_and_not_texts() -> None:
    """100 is newer than 99."""
    versions = Versions()
    versions.saw(PODS, thing("a", "99"))
    versions.saw(PODS, thing("a", "100"))
    assert (versions.newest(PODS), versions.of(PODS, KEY)) == ("100", 100)


@pytest.mark.parametrize(
    ("known", "newest", "back"),
    [("100", "99", True), ("100", "100", False), ("99", "100", False), (None, "1", False), ("x", "1", False)],
)
def test_only_an_older_newest_version_is_another_history(known: str | None, newest: str, back: bool) -> None:
    """A part of the API server that is behind says "too new" as well: then the newest is no older than was known."""
    versions = Versions()
    assert versions.went_back(known, newest) is back
    assert versions.histories == int(back)


def test_our_own_writes_are_no_news() -> None:
    """A status that we write changes no config: who asks for all models need not see it."""
    versions = Versions()
    versions.wrote(PODS, thing("a", "5"))
    assert (versions.news(PODS), versions.of(PODS, KEY)) == (0, 5)


def test_an_object_that_was_forgotten_is_taken_for_newer_than_it_is() -> None:
    """The memory is bounded, and errs on the side of reading again."""
    versions = Versions(most=2)
    for name, version in (("a", "50"), ("b", "3"), ("c", "4")):
        versions.saw(PODS, thing(name, version))
    assert versions.of(PODS, KEY) == 50
    assert versions.of(PODS, ObjectKey("n", "never-seen")) == 50
    assert versions.of(PODS, ObjectKey("n", "b")) == 3


def test_a_version_that_is_no_number_makes_every_list_ask_for_the_newest() -> None:
    """Versions are opaque as the API promises them; only where they are numbers is there a bound."""
    versions = Versions()
    versions.saw(PODS, thing("a", "7"))
    versions.saw(PODS, thing("a", "etag-x"))
    assert (versions.newest(PODS), versions.news(PODS), versions.of(PODS, KEY)) == (None, None, None)


def test_a_version_that_the_server_does_not_know_is_an_error_of_its_own() -> None:
    """To wait does not help when the store was restored from a backup; other timeouts pass."""
    body = {"reason": "Timeout", "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}
    assert isinstance(error_of(504, body, what="list"), VersionTooNew)
    assert isinstance(error_of(504, {"reason": "Timeout"}, what="list"), Unavailable)


def test_what_was_forgotten_of_a_kind_is_not_asked_for() -> None:
    """After a restore from a backup old versions mean nothing; other kinds keep theirs, and twice is no error."""
    versions = Versions()
    versions.saw(PODS, thing("a", "9"))
    versions.saw(SERVICES, thing("a", "8"))
    for _ in range(2):
        versions.forget(PODS)
        assert (versions.newest(PODS), versions.newest(SERVICES)) == (None, "8")


def test_a_list_of_a_version_that_is_no_number_makes_its_kind_opaque() -> None:
    """Then nothing can be compared, and every LIST asks for the newest state."""
    versions = Versions()
    versions.saw(PODS, thing("a", "9"))
    versions.listed(PODS, "v-10")
    assert (versions.newest(PODS), versions.news(PODS), versions.of(PODS, KEY)) == (None, None, None)


def test_what_is_known_of_an_object_never_goes_back() -> None:
    """An event that comes late tells of an older version; one without a version tells of none."""
    versions = Versions()
    versions.wrote(PODS, thing("a", "9"))
    versions.saw(PODS, thing("a", "7"))
    assert (versions.of(PODS, KEY), versions.newest(PODS)) == (9, "9")
    versions.saw(SERVICES, {"metadata": {"namespace": "n", "name": "a"}})
    assert (versions.of(SERVICES, KEY), versions.newest(SERVICES), versions.news(SERVICES)) == (0, None, 0)


def test_an_object_of_no_namespace_has_a_key_too() -> None:
    """That of a node, and of something that has not even a name."""
    versions = Versions()
    versions.saw(PODS, {"metadata": {"name": "node", "resourceVersion": "3"}})
    versions.saw(PODS, {"metadata": {"resourceVersion": "5"}})
    assert (versions.of(PODS, ObjectKey("", "node")), versions.of(PODS, ObjectKey("", ""))) == (3, 5)


def test_a_kind_of_which_nothing_is_known_can_be_forgotten() -> None:
    """Whoever finds that out may be the first to ask."""
    versions = Versions()
    versions.forget(PODS)
    assert versions.newest(PODS) is None


def test_each_time_that_versions_go_back_begins_another_history() -> None:
    """And nothing else does: what was parsed before is then no more than a memory."""
    versions = Versions()
    for known, newest, histories in (("9", "3", 1), ("3", "4", 1), ("5", "2", 2), (None, "1", 2), ("2", "2", 2)):
        assert versions.went_back(known, newest) is (known in ("9", "5"))
        assert versions.histories == histories
