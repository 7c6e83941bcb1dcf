"""What the operator, the gateway and the worker share: plain data and names, no I/O.

Everything that crosses a process boundary is defined here and nowhere else: the compiled gateway config
(``config``) and the names that more than one process must spell alike (``names``).
"""
