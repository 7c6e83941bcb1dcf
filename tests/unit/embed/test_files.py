"""What the embeddings need is there, and is what it should be, or it is said what is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from capstan_gateway.embed import files
from capstan_gateway.embed.files import EmbeddingsMissing, check_libraries, weights_path


def test_what_is_not_installed_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway without a library says which one, and how to get it."""
    monkeypatch.setattr(files, "_NEEDED", ("numpy", "no_such_library"))
    with pytest.raises(EmbeddingsMissing, match=r"not installed: no-such-library; `pip install '.\[gateway\]'`"):
        check_libraries()


def test_other_weights_than_those_that_were_measured_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another sum is not loaded, whoever has published it."""
    monkeypatch.setattr(files, "SHA256", "0" * 64)
    with pytest.raises(EmbeddingsMissing, match=r"not those of release 1\.0\.0"):
        weights_path()


def test_nothing_is_loaded_before_it_is_needed() -> None:
    """A gateway without such a guard has neither ONNX Runtime nor numpy in memory."""
    code = (
        "import sys, capstan_gateway.guards.attacks.classifier, capstan_gateway.guards.similar_topics;"
        "print([name for name in ('numpy', 'onnxruntime', 'tokenizers') if name in sys.modules])"
    )
    roots = [str(Path(files.__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": roots[0]}
    )
    assert done.stdout.strip() == "[]"
