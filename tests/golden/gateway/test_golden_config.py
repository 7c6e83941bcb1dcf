"""The gateway config of models that are not just an engine each, and what is said about them.

Write the expected file again, and look at the difference, with: UPDATE_GOLDEN=1 pytest tests/golden/gateway
"""

import os
from pathlib import Path
from typing import Any

import yaml

from capstan_operator.api.parse import parse_model
from capstan_operator.desired.compile import compile_gateway

HERE = Path(__file__).parent


def _compiled() -> dict[str, Any]:
    models = [parse_model(manifest) for manifest in yaml.safe_load_all((HERE / "models.yaml").read_text())]
    assert [model.faults for model in models] == [()] * len(models)
    compiled = compile_gateway(models)
    return {
        "config": compiled.config.model_dump(mode="json"),
        "verdicts": {str(key): f"{said.reason}: {said.message}" for key, said in compiled.verdicts.items()},
        "credentials": {file: list(where) for file, where in compiled.credentials.items()},
    }


def test_config_is_the_reviewed_one() -> None:
    """The config, the verdicts and the credentials are byte for byte the ones that were reviewed."""
    expected = HERE / "expected.yaml"
    written = yaml.safe_dump(_compiled(), sort_keys=True, allow_unicode=True, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(written)
    assert written == expected.read_text()
