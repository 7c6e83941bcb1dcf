"""Becomes another program that ends when its parent ends, however that happens.

    python tether.py PARENT_PID PROGRAM ARGUMENT...

Linux sends SIGTERM to the program when its parent dies, even by SIGKILL; elsewhere the program is just started. It is a
program of its own, standard library only, because what has to happen between fork and exec is not safe to do in a
process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent has ended")
    os.execvp(program[0], program)  # noqa: S606  (the program is chosen by our own caller)


if __name__ == "__main__":
    main()
