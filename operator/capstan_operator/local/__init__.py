"""Local mode: the same compiler over a folder of manifests, with engines and gateway as processes of this machine.

folder.py      manifests in, the last good version of each file
launch.py      pure: a model -> how its engine is started here, or why it cannot be
plan.py        pure: what runs and what should -> what to start and stop, and which addresses serve
describe.py    pure: what a person reads
process.py     one child process; tether.py ties it to its parent's life
engines.py     carries plans out: start, wait until ready, restart after a crash, drain
gateway.py     the gateway process and what it acknowledges
configdir.py   the gateway's config directory
session.py     the loop that holds them together
"""
