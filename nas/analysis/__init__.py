"""Statistics of a run: what was found, what it was due to, how sure that is. Pure functions; nothing is drawn here.

In: a `Sample` (`nas.analysis.sample`) of a run. Out: tables of numbers. Random numbers come from fixed seeds: the same run gives the
same figures. Used by: reports, `nas refine`. To add a statistic: one file here, then a section of the report that shows it.
"""
