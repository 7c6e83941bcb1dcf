"""One request from its first byte to its record: the context, the list of stages, the one error map."""
