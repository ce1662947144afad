"""A run on disk: its settings, its study, its trials; read without changing anything (`load_run`), and repaired (`doctor/`).

In: a run's folder. Out: `Settings`, `Run`, `Trial` and other records. Who writes takes the run's lock (`lock`).
Used by: analysis, reports, exports, searches. To add a setting: a field with its check in `specification.py` (of a part) or
`settings.py`, with a default for older runs, or a step in `settings_formats.py`.
"""
