"""The version of nas, and of the libraries that results depend on."""

from __future__ import annotations

VERSION = "0.1.0"  # of nas


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, by name, without importing them."""
    import platform
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    installed = {"python": platform.python_version()}
    for package in ("nas", "torch", "torchvision", "optuna", "ray", "numpy"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed
