"""Texts as vectors, in the process: all-MiniLM-L6-v2 by ONNX Runtime, on one thread of the CPU.

It is for guards and for caches.

Nothing of it is loaded until a policy needs it: `onnxruntime`, `tokenizers` and `numpy` are imported by `load` alone.

files.py       where the weights are, and that they are the ones that are meant
windows.py     what of a text is looked at, and in what pieces
words.py       a text as word pieces, and the vectors that they begin with
once.py        what is loaded when it is first asked for
session.py     a network that is run on one thread
sentences.py   a text as one vector
"""
