"""A residual network as data: what it is (`architecture`), what it costs (`cost`), and the PyTorch module that it becomes (`build`).

In: an `Architecture`, from YAML, from `zoo/` or from a search space. Out: exact costs without PyTorch; modules; weights that fit.
Used by: every room below. To add a block, shortcut, merge, stem or head: one file in `blocks/`; a known network: a row in `zoo/`.
"""
