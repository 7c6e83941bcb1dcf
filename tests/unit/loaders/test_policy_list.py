"""Listing policies: what cannot be read costs nobody else, and what was known of it stays."""

from typing import Any

from capstan_operator.api.kinds import RATE_LIMIT_POLICIES
from capstan_operator.kube.errors import Forbidden, KubeError, NotFound, UnknownResource
from capstan_operator.kube.port import Listing
from capstan_operator.loaders.namespaces import NamespaceWatch
from capstan_operator.loaders.policy_list import PolicyList
from capstan_operator.resources.resource import PolicyKey
from support.plainpolicies import LIMITS

KIND = RATE_LIMIT_POLICIES.kind


def key(namespace: str) -> PolicyKey:
    """A policy of a namespace."""
    return PolicyKey(KIND, namespace, "x")


def manifest(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A policy as the API server has it."""
    metadata = {"name": name, "namespace": namespace, "uid": name, "generation": 1, "resourceVersion": "1"}
    return {
        "apiVersion": "capstan.dev/v1alpha1",
        "kind": "RateLimitPolicy",
        "metadata": metadata,
        "spec": {"limits": LIMITS, **spec},
    }


class Kube:
    """Lists what there is in each namespace, or fails as it is told."""

    def __init__(self, **found: Any) -> None:
        self.found: dict[str | None, Any] = dict(found.items())
        self.guards: Any = ()

    async def list(self, kind: Any, *, namespace: str | None = None, shape: Any, **_: Any) -> Listing:
        """Give them, or raise."""
        answer = self.found.get(namespace or "everywhere", ()) if kind == RATE_LIMIT_POLICIES else self.guards
        if isinstance(answer, KubeError):
            raise answer
        return Listing([shape(item) for item in answer], "1")

    async def get(self, kind: Any, name: str, *, namespace: str | None = None) -> Any:
        """Nobody may look at namespaces, and there is no policy of this name."""
        raise NotFound(name)


def listed(kube: Kube, *namespaces: str, class_name: str = "") -> PolicyList:
    """A list of these namespaces; of the cluster without any."""
    watch = NamespaceWatch(kube)  # type: ignore[arg-type]
    return PolicyList(kube, namespaces=namespaces, class_name=class_name, watch=watch)  # type: ignore[arg-type]


async def test_a_namespace_that_fails_costs_no_other_one() -> None:
    """What was last known of it stays, and what is new in the others is there."""
    kube = Kube(a=[manifest("one", "a")], b=[manifest("two", "b")])
    policies = listed(kube, "a", "b")
    await policies.all()
    kube.found = {"a": KubeError("away"), "b": [manifest("three", "b")]}
    found = await policies.all()
    assert [policy.key.name for policy in found.policies] == ["one", "three"]
    assert (found.kinds[KIND].unreadable, found.kinds[KIND].unknown) == ({"a"}, set())
    assert found.is_unreadable
    assert not found.is_unread(key("a"))
    assert not found.is_read(key("a"), ("a", "b"))
    assert found.is_read(key("b"), ("a", "b"))
    assert not found.is_read(key("c"), ("a", "b"))


async def test_a_kind_that_cannot_be_listed() -> None:
    """Without its CRD, or the right, nobody knows anything of any namespace, and nothing is raised."""
    missing = UnknownResource("no")
    for error in (missing, Forbidden("no", status=403)):
        found = await listed(Kube(everywhere=error)).all()
        assert found.policies == ()
        assert found.is_unread(key("a"))
        assert not found.is_read(key("a"), ())
        assert (found.is_kind_missing, found.is_unreadable) == ((True, False) if error is missing else (False, True))


async def test_a_kind_that_is_missing_costs_no_other_kind() -> None:
    """Where the CRD of one kind is not installed, the policies of the others are read all the same."""
    kube = Kube(everywhere=[manifest("one", "a")])
    kube.guards = UnknownResource("no")
    found = await listed(kube).all()
    assert [policy.key.name for policy in found.policies] == ["one"]
    assert found.is_unread(PolicyKey("GuardPolicy", "a", "one"))
    assert not found.is_unread(key("a"))
    assert (found.is_kind_missing, found.is_unreadable, found.is_unknown) == (True, False, False)


async def test_another_class_is_not_there() -> None:
    """Policies of another install are nowhere seen, and those of this one are."""
    both = [manifest("mine", "a", className="blue"), manifest("theirs", "a")]
    for class_name, expected in (("blue", ["mine"]), ("", ["theirs"])):
        found = await listed(Kube(everywhere=both), class_name=class_name).all()
        assert [policy.key.name for policy in found.policies] == expected
