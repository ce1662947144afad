"""Execution of trials: an executor takes jobs from a queue, trains them and records their results.

In: a `JobQueue` (a search's study or a confirmation), training data. Out: results in the trials' folders. `local` trains in this
process; only `ray/` imports Ray. Failed attempts are counted and repeated here (`fencing`, `watchdog`, `job_queue`).
Used by: searching. To add an executor: a module with `run`, and its branch in `executor.py`.
"""
