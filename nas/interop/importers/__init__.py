"""Import of networks from other projects as architectures of equal cost: `IMPORTERS` by kind of source, and `import_source`.

Every file of this folder is imported, so that each registers its importer.
"""

import importlib
import pkgutil

from nas.interop.importers._base import (
    IMPORTERS,
    Found,
    Imported,
    Importer,
    Inexpressible,
    Options,
    Refused,
    Source,
    import_source,
)

for _file in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_file}")

__all__ = [
    "IMPORTERS",
    "Found",
    "Imported",
    "Importer",
    "Inexpressible",
    "Options",
    "Refused",
    "Source",
    "import_source",
]
