"""Tabular benchmarks replayed through Optuna studies: a table of trained networks stands in for training them."""
