"""How a text reads, whatever it was written with, and where in it that stands.

confusables.py   letters that look like others
fold.py          one plain form of all the ways to write a letter
readable.py      what a person reads, with its letters as they are
views.py         a text made of another one, and the way back
spaced.py        l e t t e r s  apart, and 1337
codecs.py        base64, hex and the like: what one of them says
decode.py        everything that a text says when it is decoded, within bounds
"""
