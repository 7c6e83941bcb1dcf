"""Choosing an endpoint for a request, and trying another one when it fails before its first byte."""
