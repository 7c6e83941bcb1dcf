"""The Kubernetes API behind five verbs: list, get, apply, apply_status, delete. Only this package knows the client."""
