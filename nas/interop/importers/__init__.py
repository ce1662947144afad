"""Networks that others wrote down, as architectures of equal cost: `IMPORTERS` by kind of source, and `import_source`.

Every file of this folder is imported, so that an importer is there by its file being there.
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

for _file in sorted(found.name for found in pkgutil.iter_modules(__path__)):
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
