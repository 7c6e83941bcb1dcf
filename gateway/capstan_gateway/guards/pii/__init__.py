"""Personal data and secrets, by their forms and by the words around them.

build.py       from a guard to its detector
errors.py      what a policy can ask for in vain
detector.py    what a policy asks for, of all that the others see
named.py       names, addresses and organisations, by Presidio and a spaCy model, where they are installed
view.py        a text as the recognisers see it
words.py       the words that say what a value is
raw.py         what recognisers hand over, and which of it stands
scan.py        what every recogniser is given
numbers.py     digits in groups: cards.py, phones.py and formed.py say what they are
banks.py, internet.py, coins.py, secrets.py, labelled.py    the others
"""
