"""Whether an object has to be written."""

from capstan_operator.snapshot import Manifest


def with_applied_hash(manifest: Manifest) -> Manifest:
    """Give the manifest with the annotation that tells what was applied last."""
    raise NotImplementedError


def needs_apply(desired: Manifest, live: Manifest | None) -> bool:
    """Say whether `desired` has to be written over `live`."""
    raise NotImplementedError
