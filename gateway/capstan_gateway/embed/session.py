"""A network that is run on one thread of the CPU, by ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Session:
    """A loaded network. Asked from any thread; each call computes in the thread that makes it."""

    def __init__(self, path: Path) -> None:
        """Load it from its file."""
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        # One call keeps one core busy, as the threads that ask are bounded already; more would take turns.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # What it frees goes back, instead of being kept for the longest text that ever came.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, **inputs: "NDArray[Any]") -> "NDArray[Any]":
        """Give its only output."""
        (output,) = self._session.run(None, inputs)
        return output  # type: ignore[no-any-return]
