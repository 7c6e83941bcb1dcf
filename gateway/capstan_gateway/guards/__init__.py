"""What guards look for, without any I/O: a text goes in, what was found in it comes out.

port.py      what a detector is, and what it says
"""
