"""One request from its first byte to its record.

The client's side is a `Delivery`; what is asked, and what becomes of it, an `Ask`; its content a `Request`.
"""
