"""Early stopping: which trials to end before their last epoch, decided from their learning curves alone.

In: `Curve`s of all trials, their costs, a trial and a rung. Out: a `Decision` with its reason. Pure: no files, no clock.
Used by: `execution.early_stopping`, which feeds it a run's folder. To add a policy: a function in `policies.py`, registered by name.
"""
