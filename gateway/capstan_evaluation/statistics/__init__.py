"""Whether a difference between two models is more than chance. Pure: numbers in, numbers out; the same every time.

closed/       what needs neither numpy nor scipy: processes that decide by counts all day load nothing else
"""
