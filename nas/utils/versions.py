"""The version of nas, and of the libraries that results depend on."""

from __future__ import annotations

VERSION = "0.1.0"  # of nas


def versions() -> dict[str, str]:
    """Versions of what a result depends on; nothing is imported for it."""
    import platform
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and rarely needed

    found = {"python": platform.python_version()}
    for package in ("nas", "torch", "torchvision", "optuna", "ray", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
