"""Rollouts in steps (`spec.rollout.steps`): what is decided, from what, and which objects follow. All pure.

memory.py     what a status keeps of a rollout: an operator that begins anew goes on from there
revisions.py  which spec is stable, and which is tried
gates.py      what the numbers of the gateways say of a canary
evidence.py   what the suites and the gates have said, as the status and the report keep it
machine.py    the decision: what follows from the memory and from what is seen now
objects.py    the canary, the Job of the suites, and the report
sight.py      what is seen in the cluster, for the decision

What is decided is written into the status first, and acted on from there: the objects of the next look follow from the
status that is written. So whoever is stopped between two writes has forgotten nothing.
"""
