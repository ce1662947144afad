"""Search spaces: YAML to a `SearchSpace`, and from that to choices, architectures and samples within a budget.

In: the name of a space or a YAML file, `--set` edits, budgets. Out: `SearchSpace`, `Choices` (knob to value), architectures.
Used by: samplers, runs, profiling, searching. To add a space: a YAML file in `search_spaces/`; an attribute of stages: `attributes.py`.
"""
