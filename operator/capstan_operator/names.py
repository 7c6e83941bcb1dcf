"""Names that only the operator uses, and that more than one of its rooms spells."""

from typing import Final

FIELD_MANAGER: Final = "capstan-operator"
"""The field manager of every owned object."""
SCALE_MANAGER: Final = "capstan-operator-scale"
"""The field manager of `spec.replicas` while `spec.scaling` is set."""
STATUS_MANAGER: Final = "capstan-operator-status"
"""The field manager of the status of the users' objects."""
