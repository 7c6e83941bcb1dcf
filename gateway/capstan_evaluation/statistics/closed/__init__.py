"""Formulas that the operator, the scorer and reports of experiments use: Python's own mathematics, no numpy, no scipy.

proportions.py    intervals of shares, for a number of cases that was settled before anybody looked
always_valid.py   intervals of means that hold however often somebody looks, and whenever they stop
exact.py          the same for shares, at every number of observations
quantiles.py      how many times the 95th percentile of one histogram is that of another, looked at all the time
agreement.py      how far two raters agree beyond chance

An interval for settled numbers must not be looked at until it says what one hopes for: by then it is wrong far more
often than its alpha says. What is looked at again and again takes `always_valid` or `exact`.
"""
