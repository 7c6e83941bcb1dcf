"""What a body must look like for its model: the words, limits, ids and turns that its API or its template takes.

Every function gives the very object that it got where nothing changes, so that the bytes of a client can still pass.
"""
