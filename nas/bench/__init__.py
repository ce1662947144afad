"""Comparison of samplers on tables of trained networks: searches are replayed on the table, so nothing is trained.

In: a table (shipped, or the user's CSV file), names of samplers. Out: hypervolume by number of networks, as page, JSON and CSV.
Used by: `nas bench`. To add a baseline: `baselines.py`; a table: `tables/`.
"""
