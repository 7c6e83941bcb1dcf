"""State that outlives the process, in Redis: what is kept, how much of it, and how long anybody waits for it.

Requests never wait for it but where they ask for what is stored. Only `redis.py` knows the client's library.
"""
