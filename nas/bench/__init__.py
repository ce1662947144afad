"""Samplers compared on tables of trained networks: a search is replayed thousands of times without training anything.

In: a table (shipped, or a CSV of one's own), names of samplers. Out: hypervolume against the number of networks, as page and CSV.
Used by: `nas bench`. To add a baseline: `baselines.py`; a table: `tables/`.
"""
