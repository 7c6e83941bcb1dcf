"""Suites: what is asked, and what is looked at in the answers. Reading files is `load.py`, the rest is pure."""
