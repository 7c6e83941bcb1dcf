"""Limits and budgets: what is counted, by which arithmetic, and where. It knows nothing of requests and models.

port.py      what is asked of whoever counts
a policy's rules come to buckets; a request takes from all of its buckets at once, or from none
"""
