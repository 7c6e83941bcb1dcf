"""What can go wrong in the worker, by what the caller can do about it.

WorkerError
├── UsageError        the command line or a file named there is wrong: exit code 2
├── EngineMissing     the engine is not installed: exit code 3
├── EngineError       the engine did not answer as it should
│   └── EngineUnreachable   nothing listens there (any more)
└── QueueAway         the queue's Redis did not answer, or refused
"""


class WorkerError(Exception):
    """Base of everything that the worker raises on purpose; the message is for the person who started it."""

    exit_code = 1


class UsageError(WorkerError):
    """An argument, a variable or a file that cannot be used; the message says which and what is allowed."""

    exit_code = 2


class EngineMissing(WorkerError):
    """The engine is not installed; the message says what to install."""

    exit_code = 3


class EngineError(WorkerError):
    """The engine answered with an error, too late, or something that cannot be read."""


class EngineUnreachable(EngineError):
    """Nothing listens at the engine's address."""


class QueueAway(WorkerError):
    """The Redis of the queue did not answer, or refused; the message names neither its address nor its password."""
