"""Residual networks as data (`architecture`), their exact costs (`cost`) and their PyTorch modules (`build`).

In: an `Architecture`, from YAML, from `zoo/` or from a search space. Out: exact costs without PyTorch; modules; weights that fit.
Used by: every room below. To add a block, shortcut, merge, stem or head: one file in `blocks/`; a known network: a row in `zoo/`.
"""
