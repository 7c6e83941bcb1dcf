"""The custom resources as pydantic models: the source of crds/*.yaml and of every check outside a cluster."""
