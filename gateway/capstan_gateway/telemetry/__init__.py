"""What the gateway says about itself: Prometheus metrics and log lines, both cheap on the hot path."""
