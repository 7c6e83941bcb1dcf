"""CachePolicies around models: answers that are there are given again, and what is asked at once is asked once."""
