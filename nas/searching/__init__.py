"""A search: request -> study (ask, tell) -> run. Also its confirmation from further seeds, and the displays of progress.

In: a `Request`. Out: a `Run`, with its report and the configs of its front. `search` runs all steps; `study` owns the run folder.
(Not named `search`: a package of that name would hide the function `nas.search`.)
Used by: commands, and from Python as `nas.search`. To add an option of a search: `request.py`, then `preparation.py`.
"""
