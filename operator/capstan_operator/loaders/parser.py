"""Objects that the API server has sent become Resources, each generation once: validating is the dear part."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Generic

from capstan_operator.api.kinds import LLMMODEL, Kind, S
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.parse import labels_of, parse_resource
from capstan_operator.desired.faults import judge_faults
from capstan_operator.resources.resource import Fault, Manifest, Resource


class ResourceParser(Generic[S]):
    """Parses objects of one kind, and remembers what it parsed until the generation changes.

    Fields that this release does not know are ignored: the CRD may be of a newer release, which fills in defaults, or
    this operator may have been rolled back. Labels change no generation, so they are compared by themselves.
    """

    def __init__(
        self,
        kind: Kind[S],
        *,
        judge: Callable[[Resource[S]], tuple[Fault, ...]] = lambda _: (),
        history: Callable[[], int] = lambda: 0,
    ) -> None:
        """`history`: another number than before means that generations may begin anew."""
        self._kind = kind
        self._judge = judge
        self._history = history
        self._of_history = history()
        self._parsed: dict[str, Resource[S]] = {}

    def parse(self, manifest: Manifest) -> Resource[S]:
        """Give the Resource of a manifest that the API server has sent, with the faults beyond its schema."""
        if self._of_history != (history := self._history()):
            self._of_history = history
            self._parsed.clear()
        metadata = manifest["metadata"]
        known = self._parsed.get(metadata["uid"])
        if known is None or known.generation != metadata.get("generation"):
            parsed = parse_resource(self._kind, manifest, unknown_fields="ignore")
            known = replace(parsed, judged=self._judge(parsed), status=MappingProxyType({}))
            self._parsed[known.uid] = known
        elif known.labels != (labels := labels_of(metadata)):
            known = self._parsed[known.uid] = replace(known, labels=labels)
        return replace(known, status=manifest.get("status") or {}, deleting="deletionTimestamp" in metadata)

    def keep_only(self, uids: Iterable[str]) -> None:
        """Forget what is not among the uids of a complete listing."""
        kept = set(uids)
        for uid in [uid for uid in self._parsed if uid not in kept]:
            del self._parsed[uid]


class ModelParser(ResourceParser[LLMModelSpec]):
    """Parses LLMModels."""

    def __init__(self, *, history: Callable[[], int] = lambda: 0) -> None:
        super().__init__(LLMMODEL, judge=judge_faults, history=history)
