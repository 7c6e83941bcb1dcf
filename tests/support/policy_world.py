"""What a test of policies before a real API server looks at, and how it writes."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS, ApiResource
from support.llmmodels import CONFIG_NAME, condition
from support.operator_process import find
from support.wait import eventually


@dataclass
class PolicyWorld:
    """One namespace, and policies of one kind."""

    resource: ClassVar[ApiResource]
    kube: KubeClient
    namespace: str

    async def apply(self, *manifests: dict[str, Any]) -> None:
        """Write as a user does."""
        for manifest in manifests:
            await self.kube.apply(manifest, manager="user")

    async def config(self) -> dict[str, Any]:
        """The gateway's config, as it is written."""
        found = await find(self.kube, CONFIG_MAPS, CONFIG_NAME, self.namespace)
        return dict(json.loads(found["data"]["config.json"])) if found else {"models": []}

    async def until_in_force(self, model: str, *expected: str) -> None:
        """Wait until a model has these policies, of whatever kind."""

        async def check() -> bool:
            models = (await self.config())["models"]
            found = [id_ for one in models if one["id"].endswith(f"/{model}") for id_ in one.get("policies", ())]
            return sorted(id_.rpartition("/")[2] for id_ in found) == sorted(expected)

        await eventually(check, what=f"{expected} on {model}")

    async def until(self, name: str, kind: str, status: str, reason: str) -> dict[str, Any]:
        """Wait until a condition of a policy says this of its newest generation; give the policy."""

        async def check() -> dict[str, Any] | None:
            found = await find(self.kube, self.resource, name, self.namespace)
            said = condition(found, kind)
            assert found is not None
            is_current = said.get("observedGeneration") == found["metadata"]["generation"]
            return found if is_current and (said["status"], said["reason"]) == (status, reason) else None

        found = await eventually(check, what=f"{name} to be {kind}={status}, {reason}")
        assert found is not None
        return found
