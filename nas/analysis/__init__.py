"""Statistics of a run: what was found, what it was due to, how sure that is. Pure functions of a run; nothing is drawn here.

A `Sample` (`nas.analysis.sample`) is what they are computed from. Random numbers, where there are any, come from fixed seeds:
the same run gives the same figures.
"""
