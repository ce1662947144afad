"""Folders of images: which files are read, what becomes of every kind of pixel and shape, which folders are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers_data import image_folder, npz, random_images, save_image, spoil
from PIL import Image

import nas.data
import nas.data.readers.decoded_cache
import nas.data.readers.images
from nas.data import load
from nas.errors import UsageError


def test_a_folder_with_train_and_test_is_read_as_it_is(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", ("b", "a"), 5)
    image_folder(tmp_path / "test", ("b", "a"), 3)
    data = load(f"imagefolder:{tmp_path}")
    assert data.classes == ("a", "b")
    assert data.y_train.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(data.x_train[5], np.asarray(Image.open(tmp_path / "train/b/000.png")))
    np.testing.assert_array_equal(data.x_test[2], np.asarray(Image.open(tmp_path / "test/a/002.png")))


def test_val_stands_in_for_a_test_folder_that_is_not_there(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=5)
    image_folder(tmp_path / "val", count=3)
    data = load(f"imagefolder:{tmp_path}")
    assert len(data.y_test) == 6
    assert "tested on val/" in data.source


@pytest.mark.parametrize("inner", ["", "train"])
def test_a_folder_without_test_has_a_fifth_carved(tmp_path: Path, inner: str) -> None:
    image_folder(tmp_path / inner, count=10)
    data = load(f"imagefolder:{tmp_path}")
    assert np.bincount(data.y_test).tolist() == [2, 2]
    every = {image.tobytes() for image in np.concatenate([data.x_train, data.x_test])}
    assert len(every) == 20
    assert "4 of them held out" in data.source


def test_hidden_files_and_other_files_are_ignored_and_class_folders_may_nest(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5)
    (tmp_path / "cat" / "deep").mkdir()
    (tmp_path / "cat" / "000.png").rename(tmp_path / "cat" / "deep" / "000.PNG")
    for name in (".DS_Store", "._001.png", "notes.txt", ".thumbnails/1.png", "deep/.2.png"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(b"no image")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "README.md").write_text("about")
    data = load(f"imagefolder:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert len(data.y_train) + len(data.y_test) == 10


def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path: Path) -> None:
    gray = np.array([[0, 64], [128, 255]], np.uint8).repeat(4, 0).repeat(4, 1)
    rgb = np.stack([gray, gray, gray], axis=2)
    palette = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE)
    alpha = np.dstack([rgb, np.full((8, 8), 255, np.uint8)])
    see_through = np.dstack([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)])
    cases: dict[str, tuple[Image.Image, np.ndarray]] = {
        "gray.png": (Image.fromarray(gray), rgb),
        "rgb.png": (Image.fromarray(rgb), rgb),
        "palette.png": (palette, rgb),
        "rgba.png": (Image.fromarray(alpha), rgb),
        "la.png": (Image.fromarray(alpha).convert("LA"), rgb),
        "clear.png": (Image.fromarray(see_through), np.full((8, 8, 3), 255, np.uint8)),
        "bits16.png": (Image.fromarray(gray.astype(np.uint16) * 257), rgb),
        "bits16.tif": (Image.fromarray(gray.astype(np.uint16) * 257), rgb),
        "bit.png": (Image.fromarray(gray > 100), np.where(rgb > 100, 255, 0)),
        "cmyk.tif": (Image.fromarray(rgb).convert("CMYK"), rgb),
    }
    for name in ("a", "b"):
        for file, (image, _) in cases.items():
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "train" / name / file)
    image_folder(tmp_path / "test", ("a", "b"), 1)
    data = load(f"imagefolder:{tmp_path}")
    for shown, file in zip(data.x_train, sorted(cases), strict=False):
        np.testing.assert_allclose(shown.astype(int), cases[file][1].astype(int), atol=1, err_msg=file)


def test_palette_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image_folder(tmp_path, count=4)
    image = Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P")
    image.save(tmp_path / "cat" / "clear.png", transparency=0)
    data = load(f"imagefolder:{tmp_path}")
    assert any((picture == 255).all() for picture in np.concatenate([data.x_train, data.x_test]))


def test_a_photo_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=4, size=16)
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 255  # bright above; orientation 6 means that the camera lay on its side: bright on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    image_folder(tmp_path / "test", count=1, size=16)
    Image.fromarray(half).save(tmp_path / "test" / "cat" / "000.jpg", quality=95, exif=exif)
    (tmp_path / "test" / "cat" / "000.png").unlink()
    shown = load(f"imagefolder:{tmp_path}").x_test[0].mean(axis=(0, 2))
    assert shown[:6].max() < 40
    assert shown[-6:].min() > 215


def test_resolution_of_a_folder(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5, size=20)
    assert load(f"imagefolder:{tmp_path}").resolution == 20  # squares of one size stay as they are
    assert load(f"imagefolder:{tmp_path}", resolution=12).resolution == 12
    save_image(tmp_path / "cat" / "wide.png", random_images(1, 40, height=30)[0])
    assert load(f"imagefolder:{tmp_path}").resolution == nas.data.readers.decoded_cache.DEFAULT_RESOLUTION == 64


def test_a_folder_of_large_squares_is_not_kept_at_their_size(tmp_path: Path) -> None:
    image_folder(tmp_path, count=5, size=80)
    assert load(f"imagefolder:{tmp_path}").resolution == 64


def test_oblong_images_become_what_torchvisions_resize_and_center_crop_make_of_them(tmp_path: Path) -> None:
    from torchvision.transforms import functional

    for name in ("cat", "dog"):
        for index in range(5):
            wide = random_images(index + 1, 60, height=20)[0]
            save_image(tmp_path / "train" / name / f"{index}.png", wide)
            save_image(tmp_path / "test" / name / f"{index}.png", wide.transpose(1, 0, 2))
    data = load(f"imagefolder:{tmp_path}", resolution=10)
    for part, images in (("train", data.x_train), ("test", data.x_test)):
        for index in range(5):
            resized = functional.resize(Image.open(tmp_path / part / "cat" / f"{index}.png"), 10)
            np.testing.assert_array_equal(images[index], np.asarray(functional.center_crop(resized, [10, 10])))


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    checkered = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    path = npz(
        tmp_path / "a.npz",
        x_train=np.repeat(checkered[np.newaxis, :, :, np.newaxis].astype(np.uint8), 20, axis=0),
        x_test=np.repeat(checkered[np.newaxis, :, :, np.newaxis].astype(np.uint8), 6, axis=0),
    )
    data = load(f"npz:{path}", resolution=8)
    assert np.abs(data.x_train.astype(int) - 127.5).max() < 8


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_looks_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[0:512, 0:512] / 512
    picture = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(20 * x * y)], axis=2).astype(np.uint8)
    save_image(tmp_path / "a.jpg", picture, quality=95)
    decoded = nas.data.readers.images.decode([tmp_path / "a.jpg"], tmp_path, 32, say=lambda _: None)[0][0]
    averaged = picture.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    assert np.abs(decoded[1:-1, 1:-1] - averaged[1:-1, 1:-1]).mean() < 2


def test_max_images_of_a_folder_spares_the_other_files(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", count=50)
    image_folder(tmp_path / "test", count=2)
    for file in sorted((tmp_path / "train").glob("*/*.png")):
        file.write_bytes(b"broken")
    with pytest.raises(UsageError, match="10 of 14 images"):
        load(f"imagefolder:{tmp_path}", max_images=10)


def test_progress_is_reported_while_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path, count=50)
    said: list[str] = []
    monkeypatch.setattr("nas.data.readers.images._QUIET_SECONDS", 0.0)
    load(f"imagefolder:{tmp_path}", progress=said.append)
    assert said[0].endswith("100 images of 2 classes")
    told = [line.rpartition(": ")[2].rpartition(", ") for line in said[1:-1]]
    assert [line[0] for line in told] == ["64 of 100 images", "100 of 100 images"]
    assert told[0][2].endswith(" s left")
    assert told[1][2] == "0 s left"
    assert said[-1] == "images of 8 px: they keep their size; gray ones are made RGB"


def broken_folder(problem: str, root: Path) -> str:
    image_folder(root / "set", count=6)
    cat = root / "set" / "cat"
    match problem:
        case "corrupt":
            spoil(*(cat / f"{index:03d}.png" for index in range(4)))
            (cat / "005.png").write_bytes(b"")
        case "truncated":
            whole = (cat / "001.png").read_bytes()
            (cat / "001.png").write_bytes(whole[: len(whole) * 2 // 3])
            file = io.BytesIO()
            Image.fromarray(random_images(1, 64)[0]).save(file, "JPEG")
            (cat / "photo.jpg").write_bytes(file.getvalue()[: file.tell() // 2])
        case "bomb":
            Image.new("1", (20_000, 20_000)).save(cat / "bomb.png")
        case "warned bomb":
            Image.new("1", (10_000, 10_000)).save(cat / "bomb.png")
        case "float":
            Image.fromarray(np.zeros((8, 8), np.float32)).save(cat / "float.tif")
        case "postscript":
            (cat / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
        case "few":
            for index in range(3):
                (cat / f"{index:03d}.png").unlink()
        case "empty class":
            (root / "set" / "bird").mkdir()
        case "one class":
            (root / "set" / "dog").rename(root / "dog")
        case "no images":
            for file in root.rglob("*.png"):
                file.unlink()
        case "no classes":
            for number, file in enumerate(list(root.rglob("*.png"))):
                file.rename(root / "set" / f"{number}.png")
            cat.rmdir()
            (root / "set" / "dog").rmdir()
        case "test alone":
            (root / "set").rename(root / "test")
            return f"imagefolder:{root}"
        case "classes differ" | "unsorted val":
            (root / "set").rename(root / "train")
            if problem == "classes differ":
                image_folder(root / "test", ("cat", "Dog"), 2)
            else:
                save_image(root / "val" / "0.png", random_images(1)[0])
            return f"imagefolder:{root}"
        case "missing":
            return f"imagefolder:{root / 'nowhere'}"
        case "file":
            return f"imagefolder:{cat / '000.png'}"
    return f"imagefolder:{root / 'set'}"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            "corrupt",
            r"5 of 12 images in .*set can't be read: cat/000.png \(.*; cat/005.png .*; replace or remove.*--skip-corrupt",
        ),
        (
            "truncated",
            r"2 of 13 images .*: cat/001.png \(.*; cat/photo.jpg \(image file is truncated.*replace or remove",
        ),
        ("bomb", r"1 of 13 .*cat/bomb.png \(Image size \(400000000 pixels\) exceeds limit .* decompression bomb"),
        ("warned bomb", r"1 of 13 .*cat/bomb.png \(Image size \(100000000 pixels\) exceeds limit"),
        ("float", "cat/float.tif .*floating-point pixels.*save it as 8 or 16 bits"),
        ("postscript", "cat/program.png .no image"),
        ("few", "too few images of a class: 'cat' has 3; each needs at least 4: add images or remove the class"),
        ("empty class", "'bird' has 0; each needs at least 4"),
        ("one class", r"has 1 class \(cat\)"),
        ("no images", r"no class folders with images \(there are no images\).*set/CLASS/IMAGE.*\.jpg"),
        ("no classes", r"its images, such as 0.png, lie outside of any\).*set/CLASS/IMAGE"),
        ("test alone", r"has test/ but no train/; it needs train/CLASS/ and test/CLASS/"),
        (
            "classes differ",
            r"test/ has classes without train images: Dog \(it has dog: the case of letters counts\); the classes of",
        ),
        ("unsorted val", "val has no class folders with images"),
        ("missing", "nowhere does not exist"),
        ("file", "is not a folder; imagefolder:PATH takes"),
    ],
)
def test_a_bad_folder_is_refused(problem: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        load(broken_folder(problem, tmp_path))
    assert "\n" not in str(error.value)
