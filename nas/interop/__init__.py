"""Formats of other projects: networks written for them (`export/`) and read from them (`importers/`).

In: architectures with weights, or files and modules of other libraries. Out: configs, Python, ONNX, timm, torchvision, pycls; and
architectures with the costs of the original. Used by: commands. To add a format: one file in `export/` or `importers/`, registered.
"""
