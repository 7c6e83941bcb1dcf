"""Which model answers a request that names a router, a cascade or `auto`. Pure, no I/O."""
