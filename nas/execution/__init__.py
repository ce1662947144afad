"""Trials carried out: an executor takes jobs from a queue, trains them, and brings back what became of them.

In: a `JobQueue` (a search's study or a confirmation), training data. Out: results in the trials' folders. `local` trains in this
process; `ray/` is the only room that imports Ray. Faults are counted and tried again here (`fencing`, `watchdog`, `job_queue`).
Used by: searching. To add an executor: a module with `run`, and its branch in `executor.py`.
"""
