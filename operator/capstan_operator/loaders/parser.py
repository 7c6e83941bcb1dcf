"""Objects that the API server has sent become Resources, each generation once: validating is the dear part."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Generic

from capstan_operator.api.kinds import LLMMODEL, Kind, S
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.parse import asked_of, labels_of, parse_resource
from capstan_operator.desired.faults import judge_faults
from capstan_operator.resources.resource import Fault, Manifest, Resource
from capstan_operator.resources.sharing import Sharing


class ResourceParser(Generic[S]):
    """Parses objects of one kind, and remembers what it parsed: the spec until the generation changes, all of it until
    the resourceVersion does.

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
        self._parsed: dict[str, tuple[str, Resource[S]]] = {}
        """By uid: what was parsed last, and of which resourceVersion."""
        self._sharing = Sharing()

    def known(self, uid: str, version: str) -> Resource[S] | None:
        """Give what was parsed of exactly this version of an object; None when it must be parsed."""
        self._look_at_history()
        found = self._parsed.get(uid)
        return found[1] if found is not None and found[0] == version else None

    def parse(self, manifest: Manifest) -> Resource[S]:
        """Give the Resource of a manifest that the API server has sent, with the faults beyond its schema."""
        self._look_at_history()
        metadata = manifest["metadata"]
        _, known = self._parsed.get(metadata["uid"], ("", None))
        if known is None or known.generation != metadata.get("generation"):
            parsed = parse_resource(self._kind, manifest, unknown_fields="ignore")
            spec = None if parsed.spec is None else self._sharing.within(parsed.spec)
            known = replace(parsed, spec=spec, judged=self._judge(parsed))
        elif (known.labels, known.asked) != (now := (labels_of(metadata), asked_of(metadata))):
            known = replace(known, labels=now[0], asked=now[1])
        status = self._sharing.json(manifest.get("status") or {})
        parsed = replace(known, status=status, deleting="deletionTimestamp" in metadata)
        self._parsed[parsed.uid] = metadata.get("resourceVersion") or "", parsed
        return parsed

    def _look_at_history(self) -> None:
        if self._of_history != (history := self._history()):
            self._of_history = history
            self._parsed.clear()

    def keep_only(self, uids: Iterable[str]) -> None:
        """Forget what is not among the uids of a complete listing."""
        kept = set(uids)
        for uid in [uid for uid in self._parsed if uid not in kept]:
            del self._parsed[uid]


class ModelParser(ResourceParser[LLMModelSpec]):
    """Parses LLMModels."""

    def __init__(self, *, history: Callable[[], int] = lambda: 0) -> None:
        super().__init__(LLMMODEL, judge=judge_faults, history=history)
