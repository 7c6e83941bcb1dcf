"""kopf keeps nothing of the objects that it has seen."""

from kopf._core.reactor.inventory import ResourceMemories

from capstan_operator.watch.memoryless import NoMemories


async def _seen(memories: ResourceMemories) -> int:
    for number in range(3):
        await memories.recall({"metadata": {"uid": str(number)}}, noticed_by_listing=True)
    return len(list(memories.iter_all_memories()))


async def test_no_object_is_remembered() -> None:
    """What kopf itself would keep of each object for good is gone with the event."""
    assert await _seen(ResourceMemories()) == 3, "kopf has changed: what is kept has to be found anew"
    assert await _seen(NoMemories()) == 0


async def test_every_event_begins_anew() -> None:
    """An event finds what kopf begins with, and a deletion of what was never kept is no error."""
    memories = NoMemories()
    body = {"metadata": {"uid": "u"}}
    first = await memories.recall(body, noticed_by_listing=True)
    assert first.noticed_by_listing
    assert await memories.recall(body) is not first
    await memories.forget(body)


async def test_only_metadata_is_left_of_an_object() -> None:
    """What no handler reads is let go of when an event begins: kopf's views would keep it until a collection."""
    metadata = {"name": "a", "labels": {"x": "y"}, "resourceVersion": "7", "managedFields": [{"manager": "m"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"a": 1}, "status": {}, "data": {}}
    await NoMemories().recall(body)
    assert body == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "labels": {"x": "y"}, "resourceVersion": "7"},
    }
