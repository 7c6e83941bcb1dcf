"""LISTs into plain data."""
