"""`capstan-worker vllm` where there is no vLLM."""

import subprocess
import sys


def test_a_missing_vllm_is_told_clearly():
    """Without vLLM the command says what to install and ends with 3, without a traceback."""
    blocker = "import sys; sys.modules['vllm'] = None; from capstan_worker.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", blocker, "vllm", "--", "some/model"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "vLLM is not installed in this Python. Install vllm 0.32" in done.stderr
    assert "Traceback" not in done.stderr
