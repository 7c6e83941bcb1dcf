"""What every process of ours does before its own work begins: settings are read, and logging is set up.

It is a package of its own because it does I/O, which the contract never does, and because operator, gateway and worker
must not know each other. It knows none of them.
"""
