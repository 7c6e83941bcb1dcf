"""From documents to a Runtime: sources, compilation, the atomic swap, credentials."""
