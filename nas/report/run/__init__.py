"""The page of a run, its sections and data, and a run in other formats."""
