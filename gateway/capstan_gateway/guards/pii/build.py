"""From a PII guard to its detector. What that needs is imported here when a policy has such a guard, and not before."""

from capstan_contract.guards import NAMED_KINDS, PiiEngine, PiiGuard, PiiKind
from capstan_gateway.guards.pii.errors import PiiNotAvailable
from capstan_gateway.guards.port import Detector


def build_pii_detector(guard: PiiGuard) -> Detector:
    """Make what a guard asks for.

    Raises PiiNotAvailable for a kind that this gateway doesn't know, and for the engine Presidio where that or a model
    of a language is not installed; ValueError for what makes no sense.
    """
    kinds = _kinds(guard)
    named = {kind: least for kind, least in kinds.items() if kind in NAMED_KINDS}
    formed = {kind: least for kind, least in kinds.items() if kind not in NAMED_KINDS}
    if guard.engine is PiiEngine.BUILT_IN and named:
        raise PiiNotAvailable(f"`entities` has {sorted(named)[0].value!r}, which only `engine: Presidio` finds")
    from capstan_gateway.guards.pii.detector import pii_detector

    by_form = pii_detector(formed, allowed=guard.allowList, regions=guard.regions)
    if guard.engine is PiiEngine.BUILT_IN:
        return by_form
    from capstan_gateway.guards.pii.named import with_names

    return with_names(by_form if formed else None, named, allowed=guard.allowList)


def _kinds(guard: PiiGuard) -> dict[PiiKind, float | None]:
    """Give the kinds that are looked for, each with its threshold; None: the usual one."""
    known = [kind.value for kind in PiiKind]
    for entity in guard.entities:
        if entity.type not in known:
            listed = ", ".join(known)
            raise PiiNotAvailable(f"`entities` has {entity.type!r}, which this gateway does not know: it has {listed}")
    if guard.entities:
        return {PiiKind(entity.type): entity.threshold for entity in guard.entities}
    return {kind: None for kind in PiiKind if guard.engine is PiiEngine.PRESIDIO or kind not in NAMED_KINDS}
