"""Statistics of a run: error distributions, effects of knobs and their uncertainty. Pure functions; nothing is drawn here.

In: a `Sample` (`nas.analysis.sample`) of a run. Out: tables of numbers. Random numbers come from fixed seeds, so that the same
run gives the same figures. Used by: reports, `nas refine`. To add a statistic: one file here, then a section of the report.
"""
