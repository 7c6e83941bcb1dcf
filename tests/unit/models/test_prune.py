"""What the writer deletes: of what is to go, only what the model owns."""

import pytest

from capstan_operator.desired.types import Action, DesiredModel, Wanted
from capstan_operator.models.writer import ChildWriter
from capstan_operator.resources.resource import Manifest
from fakes.kube import FakeKube
from support.plainmodels import make_model

MODEL = make_model()


def _service(name: str, *, owner: str | None = MODEL.uid, **metadata: str) -> Manifest:
    owners = (
        [{"apiVersion": "capstan.dev/v1alpha1", "kind": "LLMModel", "name": "llama", "uid": owner}] if owner else []
    )
    found = {"name": name, "namespace": "team", "uid": f"uid-{name}", "ownerReferences": owners, **metadata}
    return {"apiVersion": "v1", "kind": "Service", "metadata": found, "spec": {}}


async def _left(child: Manifest, action: Action) -> tuple[set[str], set[str]]:
    """Give what is there after a write of one child, and what the writer says is there."""
    kube = FakeKube()
    kube.put(child)
    desired = DesiredModel(key=MODEL.key, wanted=(Wanted(child, action),))
    written = await ChildWriter(kube).write(MODEL, desired, (child,))
    return {name for _, _, name in kube.objects}, {name for _, name in written.live}


@pytest.mark.parametrize(
    "child",
    [
        _service("nobodys", owner=None),
        _service("anothers", owner="uid-of-another-model"),
        _service("leaving", deletionTimestamp="2026-05-04T12:00:00Z"),
    ],
)
async def test_only_what_the_model_owns_is_pruned(child: Manifest) -> None:
    """Labels can be copied: what another uid owns, or nobody, is not deleted although it is not wanted."""
    name = child["metadata"]["name"]
    assert await _left(child, Action.PRUNE) == ({name}, {name})


async def test_what_is_owned_and_to_go_goes() -> None:
    """It is not there any more, and not taken to be."""
    assert await _left(_service("own"), Action.PRUNE) == (set(), set())


async def test_what_is_held_is_neither_written_nor_deleted() -> None:
    """A held object stays as it is."""
    kube = FakeKube()
    child = kube.put(_service("own"))
    written = await ChildWriter(kube).write(
        MODEL, DesiredModel(key=MODEL.key, wanted=(Wanted(child, Action.HOLD),)), (child,)
    )
    assert not kube.calls
    assert list(written.live.values()) == [child]
