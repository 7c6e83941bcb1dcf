"""What objects of a cluster are, whatever their kind: manifests, keys, parsed resources, addresses."""
