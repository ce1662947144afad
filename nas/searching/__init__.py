"""A search: request -> study (ask, tell) -> run. Also its confirmation from further seeds, and what people see meanwhile.

In: a `Request`. Out: a `Run`, with its report and the configs of its front. `search` is the way through, `study` owns the folder.
(Not named `search`: a package of that name would hide the function `nas.search`.)
Used by: commands, and Python as `nas.search`. To add an option of a search: `request.py`, then `preparation.py`.
"""
