"""A status beside a CRD of an older release."""

from typing import Any

import pytest

from capstan_operator.kube.declared import apply_declared, undeclared_field
from capstan_operator.kube.errors import KubeError, Unavailable

SAID = (
    "apply_status llmmodels/x/status: failed to create typed patch object (n/x; capstan.dev/v1alpha1, Kind=LLMModel):"
    " .status.{field}: field not declared in schema"
)


class Older:
    """An API server whose CRD lacks some fields; it names one at a time."""

    def __init__(self, lacks: set[str], error: KubeError | None = None) -> None:
        self.lacks = lacks
        self.error = error
        self.written: list[dict[str, Any]] = []

    async def apply_status(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Refuse what is not declared."""
        if self.error is not None:
            raise self.error
        for field in manifest["status"]:
            if field in self.lacks:
                raise Unavailable(SAID.format(field=field), status=500)
        self.written.append(manifest["status"])
        return manifest


async def test_what_the_crd_lacks_is_left_out() -> None:
    """All else of the status is written, as if the operator were of that release."""
    kube = Older({"priceSource", "policies"})
    await apply_declared(kube, {"status": {"conditions": [1], "priceSource": "a", "policies": [], "replicas": 1}})  # type: ignore[arg-type]
    assert kube.written == [{"conditions": [1], "replicas": 1}]


async def test_other_errors_are_raised() -> None:
    """Also one that names a field which was not written."""
    for error in (KubeError("no"), Unavailable(SAID.format(field="else"), status=500)):
        with pytest.raises(KubeError):
            await apply_declared(Older(set(), error), {"status": {"conditions": []}})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "field"),
    [(SAID.format(field="policies[0].name"), "policies"), (SAID.format(field="usage.rules"), "usage"), ("no", None)],
)
def test_the_field_is_the_one_of_the_status(said: str, field: str | None) -> None:
    """Wherever in it something is not declared."""
    assert undeclared_field(said) == field
