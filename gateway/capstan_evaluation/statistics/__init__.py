"""Whether a difference between two models is more than chance. Pure: numbers in, numbers out; the same every time.

closed/        what needs neither numpy nor scipy: processes that decide by counts all day load nothing else
compare.py     two runs, or their scores: Pass, Fail or Inconclusive, for each scorer and for all
pairing.py     which scores of two runs belong together, and what is missing
mcnemar.py     pairs that pass or do not: the exact test, and the interval of the difference
resampling.py  pairs of scores, repeats, weights, clusters: the same by resampling
power.py       what a number of cases can see, and how many it takes
holm.py        several tests of one thing
"""
