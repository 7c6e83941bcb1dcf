"""A small Kubernetes API client: GET, LIST and WATCH as the pod's service account."""
