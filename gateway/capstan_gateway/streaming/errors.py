"""What can go wrong with a stream."""

from capstan_gateway.errors import UpstreamFailed


class StreamBroken(UpstreamFailed):
    """The stream stopped making sense, or stopped before it was finished."""

    before: bytes = b""
    """What made sense in the same bytes, in front of what did not: the client still gets it."""
