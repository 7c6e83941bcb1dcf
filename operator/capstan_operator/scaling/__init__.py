"""How many replicas a model should have, by what is asked of it. Pure: numbers and moments in, a decision out.

demand.py      what all gateways say of one model, added up
load.py        how many replicas that asks for, of one moment
windows.py     the least and the most of a stretch of time, in little memory
schedules.py   the bounds at a moment
decision.py    how many there should be, by what was asked for before
preemption.py  who gives way when GPUs are few
"""
