"""kopf, and what its events wake."""
