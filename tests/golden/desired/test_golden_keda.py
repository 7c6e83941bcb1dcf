"""What KEDA is given for a model, object by object.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/desired
"""

import os
from pathlib import Path

import yaml

from capstan_operator.api.parse import parse_model
from capstan_operator.desired.autoscaler import ScalerEndpoint, ScalerSays, Use
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.settings import BuildSettings
from support.needs import ROOT

EXPECTED = Path(__file__).parent / "keda.yaml"
ENDPOINT = ScalerEndpoint("capstan-operator-scaler.capstan-system.svc:6444", "(PEM)\n")


def test_objects_are_the_reviewed_ones() -> None:
    """Those of the example are byte for byte the ones that were reviewed."""
    manifest = yaml.safe_load((ROOT / "examples/scaling-keda.yaml").read_text())
    manifest["metadata"] |= {"namespace": "golden", "uid": "00000000-0000-4000-8000-000000000001", "generation": 1}
    model = parse_model(manifest)
    says = ScalerSays(least=0, keda=Use.APPLY, endpoint=ENDPOINT)
    snapshot = Snapshot(models={model.key: model}, scaled_objects=True)
    objects = build_model(model, snapshot, BuildSettings(), scaler=says).objects
    found = [one for one in objects if one["kind"] in ("ConfigMap", "TriggerAuthentication", "ScaledObject")]
    written = yaml.safe_dump_all(found, sort_keys=True, allow_unicode=True, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(written)
    assert written == EXPECTED.read_text()
