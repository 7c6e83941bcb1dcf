"""The scorer of sampled answers as a process of the worker's: settings, its port, and what it is connected to."""
