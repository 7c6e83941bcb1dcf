"""The specs of stable revisions, of models whose rollout is on its way or whose newest revision is rejected.

Each is in a ControllerRevision, whose data never changes: it is read once, by its name. Until it has been read, and
where it is gone, the model counts as faulty: what serves stays as it is, as after an edit that was refused.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.rollouts.revisions import held_revision, merge_specs, read_spec, spec_name
from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import CONTROLLER_REVISIONS
from capstan_operator.resources.resource import Fault, is_owned

log = logging.getLogger(__name__)

MOST: Final = 512
READ_SECONDS: Final = 5.0
"""Deadline of one look."""
AT_ONCE: Final = 8
LOST: Final = Fault(
    "spec.rollout.steps",
    "cannot be followed: the ControllerRevision that keeps the stable revision's spec is gone; what serves stays as it"
    " is until the spec is again the stable one, or `steps` are removed, which replaces the pods at once",
)
UNREAD: Final = Fault("spec.rollout.steps", "cannot be followed now: the stable revision's spec could not be read")

_Key = tuple[str, str]
"""(uid of the model, revision)."""


class StableSpecs:
    """Reads and remembers them; bounded."""

    def __init__(self, kube: KubePort) -> None:
        self._kube = kube
        self._known: OrderedDict[_Key, LLMModelSpec] = OrderedDict()
        self._lost: set[_Key] = set()
        self._merged: OrderedDict[str, tuple[LLMModelSpec, LLMModelSpec, LLMModelSpec]] = OrderedDict()
        """By uid: what was stable, what is newest, and the two as one."""

    async def read(self, models: Iterable[Model]) -> bool:
        """Read what is not known yet of these models; say whether all could be read."""
        wanted = [(model, held) for model in models if (held := self._unknown(model))]
        places = asyncio.Semaphore(AT_ONCE)

        async def one(model: Model, revision: str) -> bool:
            async with places:
                return await self._look(model, revision)

        return all(await asyncio.gather(*(one(model, revision) for model, revision in wanted)))

    def applied(self, model: Model) -> Model:
        """Give a model with the spec that its stable pods follow from; what is tried is then `tried`."""
        held = held_revision(model)
        if held is None or model.spec is None:
            return model
        key = (model.uid, held)
        stable = self._known.get(key)
        if stable is None:
            return replace(model, faults=(LOST if key in self._lost else UNREAD,), judged=None)
        known = self._merged.get(model.uid)
        # NB: whoever remembers what it has made of a spec knows it by its identity.
        if known is None or known[0] is not stable or known[1] is not model.spec:
            known = self._merged[model.uid] = stable, model.spec, merge_specs(stable, model.spec)
            while len(self._merged) > MOST:
                self._merged.popitem(last=False)
        return replace(model, spec=known[2], tried=model.spec, judged=None)

    def is_unread(self, model: Model) -> bool:
        """Whether it is not known yet what is stable."""
        held = self._unknown(model)
        return held is not None and (model.uid, held) not in self._lost

    def _unknown(self, model: Model) -> str | None:
        held = held_revision(model)
        return held if held is not None and (model.uid, held) not in self._known else None

    async def _look(self, model: Model, revision: str) -> bool:
        name, key = spec_name(model.key.name, revision), (model.uid, revision)
        try:
            async with asyncio.timeout(READ_SECONDS):
                page = await self._kube.list(
                    CONTROLLER_REVISIONS, namespace=model.key.namespace, field_selector=f"metadata.name={name}"
                )
        except (KubeError, TimeoutError) as error:
            log.warning("could not read a stable spec", extra={"model": str(model.key), "error": str(error)})
            return False
        found = next((item for item in page.items if is_owned(item, model.uid)), None)
        spec = read_spec(found)
        if spec is None:
            self._lost = {*list(self._lost)[-MOST:], key}
            return True
        self._lost.discard(key)
        self._known[key] = spec
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return True
