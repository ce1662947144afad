"""What libraries say of a failure is quoted in one line: no escapes, no pages of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import NasError, UsageError, reason_of

TORCH = (
    "Weights only load failed. This file can still be loaded, to do so you have two options, \x1b[1mdo those steps only if you "
    "trust the source of the checkpoint\x1b[0m. \n\t(1) Re-running `torch.load` with `weights_only` set to `False` will "
    "likely succeed\n\tWeightsUnpickler error: \n\nCan only append to lists\n\nCheck the documentation of torch.load"
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("plain", "plain"),
        ("two\n\tlines\r\nand more", "two lines and more"),
        ("\x1b[1;31mred\x1b[0m, \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ and \x1b(Bcharset", "red, link and charset"),
        ("a\x00b\x07c\x9b31md", "abc31md"),
        ("lone \x1b", "lone"),
        (TORCH, "Can only append to lists Check the documentation of torch.load"),
        (f"RuntimeError: {TORCH}", "RuntimeError: Can only append to lists Check the documentation of torch.load"),
        ("", "no reason given"),
        (KeyError(), "KeyError"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_a_reason_is_one_clean_line(said, line):
    assert reason_of(said) == line


def test_an_error_is_one_line_whatever_it_quotes():
    assert str(UsageError("a\nb\u2028c: no such file")) == "a\\nb\\u2028c: no such file"


def test_a_reason_is_bounded():
    assert reason_of("x" * 10_000_000, 50) == "x" * 46 + " ..."
    assert reason_of("x" * 50, 50) == "x" * 50


def test_the_first_line_is_the_first_that_says_something():
    assert reason_of("\n \nCUDA error: illegal access\nadvice", first_line=True) == "CUDA error: illegal access"


# -- other programs' files: whatever they hold, the error is one line ------------------------------------------------------

HOSTILE = "\x1b[31mred\nline\u202e\x07 "


def files() -> dict[str, bytes]:
    return {
        "metadata.csv": f'file_name,label\n"{HOSTILE}.png",cat\n'.encode(),
        "metadata.jsonl": f'{{"file_name": "x", "label": {HOSTILE}}}\n'.encode(),
        "data.parquet": b"PAR1" + HOSTILE.encode() * 3 + b"PAR1",
        "data.npz": b"PK\x03\x04" + HOSTILE.encode(),
        "weights.pth": HOSTILE.encode(),
        "weights.safetensors": len(HOSTILE).to_bytes(8, "little") + HOSTILE.encode(),
        "table.csv": f'name,accuracy\n"{HOSTILE}'.encode(),
        "config.yaml": f"name: x\n{HOSTILE}: [".encode(),
        "network.json": f'{{"{HOSTILE}'.encode(),
    }


def reads(path: Path) -> object:
    from nas.bench import table
    from nas.data import load
    from nas.interop.importers import import_source
    from nas.networks.architecture import Architecture
    from nas.networks.weights import read

    match path.suffix:
        case ".pth" | ".safetensors":
            return read(str(path))
        case ".yaml":
            return Architecture.from_yaml(path)
        case ".json":
            return import_source(str(path))
        case ".npz":
            return load(f"npz:{path}")
    if path.name == "table.csv":
        return table.read(str(path))
    return load(f"imagefolder:{path.parent}", root=path.parent.parent / "home")


@pytest.mark.parametrize("name", files())
def test_errors_of_foreign_files_are_one_line(name, tmp_path):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_bytes(files()[name])
    with pytest.raises(NasError) as raised:
        reads(path)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 600 + len(str(path))
