"""Other projects' formats: networks of a run written for them (`export/`), and theirs read (`importers/`).

In: architectures with weights, or the files and modules of other libraries. Out: configs, Python, ONNX, timm, torchvision, pycls, and
architectures with the costs of the original. Used by: commands. To add a format: one file in `export/` or `importers/`, registered.
"""
