"""Who wants to take a model over, or to talk it out of its rules.

pattern.py      what a pattern is, and pieces that they are made of
injection.py    what injections say in English; jailbreak.py: what jailbreaks say
languages.py    both, in other languages; templates.py: tokens of chat templates
patterns.py     all of them as one automaton
evidence.py     what was found, and how much it is worth
suffix.py       texts that no person has written
build.py        from a guard to its detector
detector.py     patterns first, then the classifier, then doubt
"""
