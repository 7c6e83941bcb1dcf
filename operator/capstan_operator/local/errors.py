"""What can go wrong in local mode before anything is served.

LocalError
 |-- PortTaken        the gateway's port belongs to another process
 |-- AlreadyRunning   another `capstan up` uses the same state directory
 |-- ForeignFolder    what was given as state directory belongs to somebody else
 |-- NothingToServe   the folder has no model that can be served
 |-- GatewayFailed    the gateway process does not come up
 |-- KeysUnreadable   the file of API keys is damaged
 `-- NoSuchKey        no API key has this name
"""


class LocalError(Exception):
    """Local mode cannot go on; the message is for the person at the terminal."""


class PortTaken(LocalError):
    """The gateway's port belongs to another process."""


class AlreadyRunning(LocalError):
    """Another `capstan up` uses the same state directory."""


class ForeignFolder(LocalError):
    """What was given as state directory holds files that are not a session's, or is no folder."""


class NothingToServe(LocalError):
    """The folder has no model that can be served."""


class GatewayFailed(LocalError):
    """The gateway process does not come up."""


class KeysUnreadable(LocalError):
    """The file of API keys is damaged, or its owner's rights are gone."""


class NoSuchKey(LocalError):
    """No API key has this name."""
