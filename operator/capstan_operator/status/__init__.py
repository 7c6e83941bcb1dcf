"""What is: conditions of an LLMModel, from what is wanted, what is there, and what the gateway says. Pure.

What each condition answers:
- Accepted: is the spec usable, and are its names free?
- WeightsReady: can a pod get at the weights?
- Available: does any replica (or the hosted API) take requests now?
- Progressing: is it on its way without anybody's help? Wait.
- Degraded: does it need a person? Act. A faulty spec and a conflict of names are among it.
- Ready: does this generation answer through the gateway, or is it at zero as it should be?
"""
