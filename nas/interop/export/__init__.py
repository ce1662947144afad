"""Export of networks to files: `EXPORTERS` by format, and functions that write several networks to a folder."""

from nas.interop.export import config, huggingface, onnx, programs, pycls, python, timm, torchvision  # noqa: F401 - each registers
from nas.interop.export.formats import EXPORTERS, Exporter, MissingPackage, NotExpressible, Subject
from nas.interop.export.trials import export_trials, provenance

__all__ = ["EXPORTERS", "Exporter", "MissingPackage", "NotExpressible", "Subject", "export_trials", "provenance"]
