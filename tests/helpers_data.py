"""Images of no meaning, as arrays, files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nas.data.readers.decoded_cache
import nas.data.readers.images


def random_images(count: int, size: int = 8, channels: int = 3, height: int | None = None) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height or size, size, channels), dtype=np.uint8)


def save_image(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, size: int = 8) -> Path:
    for number, name in enumerate(classes):
        for index, pixels in enumerate(random_images(count + number, size)[:count]):
            save_image(root / name / f"{index:03d}.png", pixels)
    return root


def npz(path: Path, **changes: Any) -> Path:
    """A valid file of arrays, with `changes` to some; None leaves one out."""
    arrays: dict[str, Any] = {
        "x_train": random_images(20),
        "y_train": np.arange(20) % 2,
        "x_test": random_images(6),
        "y_test": np.arange(6) % 2,
        "classes": np.array(["cat", "dog"]),
    }
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path


def spoil(*files: Path) -> None:
    """Overwrite images with what begins like one."""
    for file in files:
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where decoded images are kept, be they ever so few."""
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(nas.data.readers.decoded_cache, "LEAST_BYTES", 0)
    return tmp_path / "home" / "decoded"


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    seen: list[Path] = []
    read = nas.data.readers.images.square_rgb
    monkeypatch.setattr(
        nas.data.readers.images, "square_rgb", lambda file, side: (seen.append(file), read(file, side))[1]
    )
    return seen


def photos(root: Path, count: int = 20) -> Path:
    """JPEGs of many shapes in train/ and test/, of a class of reds and a class of greens."""
    random = np.random.default_rng(0)
    for part, images in (("train", count), ("test", 5)):
        for channel, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(0, 90, (20 + number % 7, 30 - number % 5, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / part / name / f"{number:03}.jpg", quality=95)
    return root
