"""Folders of manifests: what is in them, and what is wrong."""
