"""Networks of a run as files: `EXPORTERS` by format, and `export_trials`, which writes some trials' configs to a folder."""

from nas.export.formats import EXPORTERS, Exporter
from nas.export.trials import export_trials, provenance

__all__ = ["EXPORTERS", "Exporter", "export_trials", "provenance"]
