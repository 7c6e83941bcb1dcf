"""Responses in the background: requests of the Responses API that are answered when nobody waits any more."""
