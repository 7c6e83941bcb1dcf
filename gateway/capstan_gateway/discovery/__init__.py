"""Ready endpoints of every Service that the operator made, from EndpointSlices."""
