"""The InferencePool of a model, field by field.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/desired
"""

import os
from pathlib import Path

import yaml

from capstan_operator.api.parse import parse_model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.settings import BuildSettings
from support.needs import ROOT

EXPECTED = Path(__file__).parent / "inference_pool.yaml"


def test_it_is_the_reviewed_one() -> None:
    """That of the example is byte for byte the one that was reviewed."""
    manifest = yaml.safe_load((ROOT / "examples/llama-8b.yaml").read_text())
    manifest["metadata"] |= {"namespace": "golden", "uid": "00000000-0000-4000-8000-000000000001", "generation": 1}
    model = parse_model(manifest)
    snapshot = Snapshot(models={model.key: model}, inference_pools=True)
    objects = build_model(model, snapshot, BuildSettings(inference_pools=True)).objects
    (found,) = [one for one in objects if one["kind"] == "InferencePool"]
    written = yaml.safe_dump(found, sort_keys=True, allow_unicode=True, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text(written)
    assert written == EXPECTED.read_text()
