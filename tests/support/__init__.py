"""Helpers that tests share: waiting, ports, processes, and what a test needs of the machine."""
