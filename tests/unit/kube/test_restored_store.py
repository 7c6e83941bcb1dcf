"""A store that was restored from a backup: what is listed is of it, and nothing of what was remembered before."""

from typing import Any

import orjson

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient, Limits
from capstan_operator.kube.errors import VersionTooNew
from capstan_operator.kube.versions import Versions
from capstan_operator.loaders.parser import ModelParser


class Server(KubeClient):
    """An API server with one LLMModel, whose store may be restored, or whose cache may be behind."""

    def __init__(self) -> None:
        self._versions = Versions()
        self._limits = Limits()
        self.version, self.replicas, self.behind = 100, 3, False

    async def _call(self, request: Any) -> Any:
        since = dict(request.query).get("resourceVersion")
        if since and (self.behind or int(since) > self.version):
            raise VersionTooNew("too large", status=504)
        metadata = {"name": "m", "namespace": "ns", "uid": "u", "generation": 2, "resourceVersion": str(self.version)}
        item = {"metadata": metadata, "spec": {"model": {"source": "hf://a/b"}, "replicas": self.replicas}}
        return request.read(orjson.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": [item]}))

    async def replicas_of(self, parser: ModelParser) -> int:
        """List, and parse what was listed."""
        (model,) = (await self.list(LLM_MODELS, shape=parser.parse, known=parser.known)).items
        return int(model.spec.replicas)


async def test_a_generation_that_was_reused_is_read_as_it_is_now() -> None:
    """The uid and the generation are those of before, the spec is another one: that of the store counts, at once."""
    server = Server()
    parser = ModelParser(history=lambda: server.versions.histories)
    assert await server.replicas_of(parser) == 3
    server.version, server.replicas = 50, 7
    assert await server.replicas_of(parser) == 7
    assert server.versions.histories == 1
    assert await server.replicas_of(parser) == 7
    assert server.versions.histories == 1


async def test_a_part_of_the_api_server_that_is_behind_loses_nothing() -> None:
    """The newest state is asked for, and what was parsed is not parsed again."""
    server = Server()
    parser = ModelParser(history=lambda: server.versions.histories)
    first = (await server.list(LLM_MODELS, shape=parser.parse, known=parser.known)).items[0]
    server.behind = True
    second = (await server.list(LLM_MODELS, shape=parser.parse, known=parser.known)).items[0]
    assert second.spec is first.spec
    assert server.versions.histories == 0


async def test_a_version_that_was_reused_is_read_as_it_is_now() -> None:
    """After a restore the very resourceVersion of before may stand for other content: it counts as never seen."""
    server = Server()
    parser = ModelParser(history=lambda: server.versions.histories)
    assert await server.replicas_of(parser) == 3
    server.replicas = 5
    assert await server.replicas_of(parser) == 3, "else this test shows nothing: the version was not known"
    server.versions.histories += 1
    assert await server.replicas_of(parser) == 5
