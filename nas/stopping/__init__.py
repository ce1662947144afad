"""Early stopping: decides from learning curves and exact costs alone which trials end before their last epoch.

In: the `Curve`s of all trials with their costs, and the key of a trial. Out: a `Decision` with its reason. No files, no clock.
Used by: `execution.early_stopping`, which reads the curves from a run's folder.
To add a policy: a function in `policies.py`, registered by name.
"""
