"""Is one model's answer as good as another's? Suites of cases, what scores answers, and the statistics that may say no.

It is a package of its own because the command line, the Job of a rollout and the scorer of sampled answers share it.
The
gateway, through which requests go, does not know it.
"""
