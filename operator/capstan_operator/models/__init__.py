"""The reconcile of LLMModels: children and status."""
