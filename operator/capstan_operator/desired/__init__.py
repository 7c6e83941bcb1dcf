"""What should be: pure functions from a Snapshot to Kubernetes objects and to the gateway config. No I/O, no clock."""
