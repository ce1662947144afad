"""Small inputs that ask for much: each is refused in a line, in a process that may take little memory and a few seconds.

Each bomb is set off in a process of its own, in which everything that the reader needs is loaded before the address space is
limited to ROOM more bytes: an allocation that should never be tried fails there at once.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOM = 768 << 20

PREAMBLE = f"""
import resource, sys, time
from pathlib import Path
{{imports}}
from nas.errors import NasError
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {ROOM}, taken + {ROOM}))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
for path in sys.argv[1:]:
    try:
        print("read:", repr({{call}})[:200])
    except NasError as error:
        print("refused:", " ".join(str(error).splitlines()))
"""
CONFIG = """version: 1
resolution: 32
stem: {kind: cifar, width: 16}
stages:
- {depth: 2, width: 16, branch: {kind: basic}, shortcut: identity}
head: {kind: linear, classes: 10}
"""
SPACE = "space: bomb\nstages: 2\nvalues: {block: basic, depth: [1, 2], width: [16, 32]}\n"

IMPORTS = {
    "config": "import nas, yaml",
    "build": "import nas, torch, yaml",
    "space": "import nas, yaml, nas.spaces.space",
    "run": "import nas, optuna, nas.runs.run",
    "weights": "import torch, safetensors; from nas.networks import weights",
    "table": "import nas.bench.table",
    "npz": "import numpy, nas.data, nas.data.readers.user_files",
    "folder": "import numpy, PIL.Image, nas.data, nas.data.readers.user_files",
}
CALLS = {
    "config": "nas.Architecture.from_yaml(Path(path))",
    "build": "nas.build(nas.Architecture.from_yaml(Path(path)))",
    "space": "nas.load_space(path)",
    "run": "nas.load_run(path)",
    "weights": "weights.read(path)",
    "table": "nas.bench.table.read(path)",
    "npz": "nas.data.load('npz:' + path, root=Path(path).parent / 'data')",
    "folder": "nas.data.load('imagefolder:' + path, root=Path(path).parent / 'data', resolution=32)",
}


def set_off(kind: str, *paths: Path) -> list[str]:
    """What the reader of this kind says of each of the files."""
    code = PREAMBLE.format(imports=IMPORTS[kind], call=CALLS[kind])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-3000:]}"
    said = done.stdout.strip().split("\n")
    assert len(said) == len(paths)
    return said


# -- texts ---------------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x]\n" + "".join(f"{chr(b)}: &{chr(b)} [*{chr(b - 1)}, *{chr(b - 1)}]\n" for b in range(98, 122))

TEXTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "depth of 10^9": ("config", lambda: CONFIG.replace("depth: 2", f"depth: {10**9}").encode(), "depth must be .* 1,024"),
    "width of 10^9": ("config", lambda: CONFIG.replace("width: 16,", f"width: {10**9},").encode(), "width must be .* 1,048,576"),
    "resolution of 10^6": ("config", lambda: CONFIG.replace("32", "1000000").encode(), "resolution must be .* 16,384"),
    "classes of 10^9": ("config", lambda: CONFIG.replace("10}", f"{10**9}}}").encode(), "classes must be from 1 to 1,048,576"),
    "10^5 stages": (
        "config",
        lambda: CONFIG.replace("stages:\n", "stages:\n" + "- {depth: 2, width: 16, branch: basic}\n" * 20_000).encode(),
        "from 1 to 64 stages",
    ),
    "a space of depths up to 10^9": (
        "space",
        lambda: SPACE.replace("[1, 2]", f"{{from: 1, to: {10**9}}}").encode(),
        "more than 10,000 values",
    ),
    "a space with a depth of 10^9": ("space", lambda: SPACE.replace("[1, 2]", f"[1, {10**9}]").encode(), "depth must be .* 1,024"),
    "10^9 stages in a space": ("space", lambda: SPACE.replace("stages: 2", f"stages: {10**9}").encode(), "from 1 to 16"),
    "a knob of 10^7 values": (
        "space",
        lambda: SPACE.replace("[16, 32]", str(list(range(1, 10**7)))).encode(),
        "bytes are too many for a config",
    ),
    "a knob of 10^5 values": (
        "space",
        lambda: SPACE.replace("[16, 32]", str(list(range(1, 100_001)))).encode(),
        "99,999 values|100,000 values|at most 10,000",
    ),
    "100 MB of YAML": ("space", lambda: b"# " + b"x" * 100_000_000, "100,000,002 bytes are too many for a config"),
    "aliases of aliases": ("config", lambda: LAUGHS.encode(), "aliases .* are not read here"),
    "a tag that makes objects": (
        "config",
        lambda: b"!!python/object/apply:os.system ['touch /tmp/nas-was-here']\n",
        "tags .* are not read here",
    ),
    "nested 100,000 deep": ("config", lambda: b"[" * 100_000, "nested too deeply"),
    "nested maps": ("space", lambda: b"{a: " * 50_000, "nested too deeply"),
    "the same key twice": ("config", lambda: CONFIG.replace("version: 1", "resolution: 8").encode(), "'resolution' is given twice"),
    "bytes that are no text": ("config", lambda: b"\xff\xfe\x00a" * 100, "not a text file: byte 0 is not UTF-8"),
    "NUL": ("config", lambda: CONFIG.replace("cifar", "ci\0far").encode(), "line 3|special characters"),
    "an int of 10^6 digits": ("config", lambda: CONFIG.replace("32", "9" * 10**6).encode(), "at most 64 are read|too many"),
    "an int of 10^5 digits": ("config", lambda: CONFIG.replace("32", "9" * 10**5).encode(), "at most 64 are read"),
    "infinity": ("config", lambda: CONFIG.replace("32", ".inf").encode(), "resolution must be a whole number"),
    "not a number": ("space", lambda: SPACE.replace("[16, 32]", "[.nan, 32]").encode(), "not a finite number"),
    "an infinite budget": ("space", lambda: SPACE.encode() + b"budgets: {params: {max: .inf}}\n", "is not a count"),
    "a table with 10^6 columns": ("table", lambda: b",".join(b"c%d" % k for k in range(10**6)) + b"\n1\n", "1,000,000 columns"),
    "a table whose words are 10^5 choices": (
        "table",
        lambda: b"arch,acc,params\n" + b"".join(b"%s%d,0.%d,1\n" % (b"a" * 100_000, k, k) for k in range(1, 9)),
        "more than 1,000 characters",
    ),
    "a table of 300 MB": ("table", lambda: b"a,acc,params\n" + b"1,0.5,7\n" * 37_500_000, "more than 256 MiB of text"),
    "numbers of 4,000 digits": ("table", lambda: b"a,b,acc,params\n1,1,.5,%s\n1,2,.6,3\n2,1,.7,4\n" % (b"9" * 4000), "not a finite number"),
}  # fmt: skip


@pytest.fixture(scope="module")
def refusals(tmp_path_factory) -> dict[str, str]:
    """What was said of each of the texts, those of one kind in one process."""
    folder, found = tmp_path_factory.mktemp("bombs"), {}
    for kind in {kind for kind, _, _ in TEXTS.values()}:
        names = [name for name in TEXTS if TEXTS[name][0] == kind]
        paths = [folder / f"{kind}-bomb{k}" for k in range(len(names))]
        for name, path in zip(names, paths, strict=True):
            path.write_bytes(TEXTS[name][1]())
        found.update(zip(names, set_off(kind, *paths), strict=True))
        for path in paths:
            path.unlink()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_ask_for_too_much_are_refused(refusals, name):
    kind, _, says = TEXTS[name]
    assert refusals[name].startswith("refused:")
    assert (
        f"{kind}-bomb" in refusals[name] or "--split arch" in refusals[name]
    )  # the file, or the option that is to blame
    assert re.search(says, refusals[name])


# -- networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_network_that_memory_can_t_hold_is_costed_but_not_built(tmp_path):
    wide = CONFIG.replace("width: 16,", f"width: {1 << 20},").replace("identity", "projection")
    many = (
        wide.replace("depth: 2", "depth: 1").replace("kind: basic", "kind: bottleneck").replace("10}", f"{1 << 20}}}")
    )
    paths = [tmp_path / "wide-bomb.yaml", tmp_path / "many-bomb.yaml"]
    for path, text in zip(paths, (wide, many), strict=True):
        path.write_text(text)
    profile = [sys.executable, "-m", "nas", "profile", "--json", *map(str, paths)]
    done = subprocess.run(profile, capture_output=True, text=True, timeout=250, check=True)
    for row, said in zip(json.loads(done.stdout), set_off("build", *paths), strict=True):
        params = row["params"]
        assert params > 10**12
        said = said.replace("this network", row["name"])  # a config without a name
        assert said.startswith(f"refused: {row['name']}: {params:,} parameters in")
        assert "GiB of memory are available" in said


def test_what_is_refused_depends_on_the_memory_that_there_is(monkeypatch):
    import nas
    from nas.errors import UsageError
    from nas.utils import limits

    network = nas.zoo.get("resnet20")
    need = nas.cost_of(network).params * limits.BYTES_A_PARAM + 9 * limits.BYTES_A_BLOCK
    monkeypatch.setattr(limits, "available_memory", lambda: need)
    nas.build(network)
    monkeypatch.setattr(limits, "available_memory", lambda: need - 1)
    with pytest.raises(UsageError, match=r"resnet20: 269,722 parameters in 9 blocks take .* GiB"):
        nas.build(network)
    monkeypatch.setattr(limits, "available_memory", lambda: None)
    nas.build(network)


# -- files of other kinds ------------------------------------------------------------------------------------------------


def npy(shape: tuple[int, ...], dtype: str = "|u1", data: bytes = b"") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue() + data


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.slow
def test_arrays_that_claim_too_much_are_refused(tmp_path):
    far = b"\xff\xff\xff\x7f\0\0\0\0"  # a label of 2^31
    bombs = {
        "GiB of memory are available": {"x_train.npy": npy((10**12, 32, 32, 3)), "y_train.npy": npy((10**12,), "<i8")},
        "GiB of memory": {
            "x_train.npy": npy((4, 8, 8, 3), "|u1", bytes(4 * 192)),
            "y_train.npy": npy((10**12,), "<i8"),
        },
        "pickled objects": {
            "x_train.npy": npy((4, 8, 8, 3), "|O", b"\x80\x04."),
            "y_train.npy": npy((4,), "<i8", bytes(32)),
        },
        "labels of y_train begin at": {
            "x_train.npy": npy((40, 8, 8, 3), "|u1", bytes(40 * 192)),
            "y_train.npy": npy((40,), "<i8", far * 40),
        },
    }
    paths = [zipped(tmp_path / f"bomb{k}.npz", members) for k, members in enumerate(bombs.values())]
    for path, says, said in zip(paths, bombs, set_off("npz", *paths), strict=True):
        assert said.startswith("refused:") and path.name in said and says in said, said


def png(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel that says this size, of a few kilobytes whatever it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.slow
def test_an_image_of_50000_by_50000_pixels_is_refused(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(5):
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / f"{k}.png")
    (tmp_path / "images" / "a" / "bomb.png").write_bytes(png(50_000, 50_000))
    (said,) = set_off("folder", tmp_path / "images")
    assert said.startswith("refused:") and "bomb.png" in said and "1 of 11 images" in said, said
    assert "decompression bomb" in said


@pytest.mark.slow
def test_weights_of_a_few_bytes_that_stand_for_10_to_the_12(tmp_path):
    import torch

    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "bomb.pth")
    (said,) = set_off("weights", tmp_path / "bomb.pth")
    assert said.startswith("refused:") and "1,000,000,000,000 elements" in said, said


@pytest.mark.slow
def test_weights_that_unpack_to_much_are_refused(tmp_path):
    import torch

    torch.save({"w": torch.zeros(1 << 28)}, tmp_path / "whole.pth")  # 1 GiB of zeros
    deflated = zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, deflated as packed:
        for part in whole.infolist():
            with whole.open(part) as source, packed.open(part.filename, "w") as target:
                while piece := source.read(1 << 24):
                    target.write(piece)
    (tmp_path / "whole.pth").unlink()
    (said,) = set_off("weights", tmp_path / "bomb.pth")
    assert said.startswith("refused:") and "it unpacks to" in said, said


@pytest.mark.slow
def test_safetensors_that_claim_too_much_are_refused(tmp_path):
    heads = (b'{"w": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4]}}', b"[" * 100_000)
    paths = [tmp_path / f"bomb{k}.safetensors" for k in range(len(heads))]
    for path, head in zip(paths, heads, strict=True):
        path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    for said in set_off("weights", *paths):
        assert said.startswith("refused:") and "can't be read as safetensors" in said, said


FILES = [
    ("study.journal", lambda: b"[" * (5 << 20), "line 1 has more than 4,194,304 bytes"),
    ("study.journal", lambda: b"[" * (1 << 20) + b"\n", "damaged, or no journal"),
    ("sessions.json", lambda: b"[" * 1_000_000, ""),
    ("sessions.json", lambda: b"9" * 1_000_000, ""),
    ("sessions.json", lambda: b" " * (65 << 20), "bytes are too many for a record"),
    ("run.yaml", lambda: b"#" * 100_000_000, "bytes are too many for a config"),
]


@pytest.mark.slow
def test_files_of_a_run_that_ask_for_too_much(tmp_path):
    from make_run import make_run

    made = make_run(tmp_path / "made", trials=2)
    folders = [shutil.copytree(made, tmp_path / f"run{k}") for k in range(len(FILES))]
    for folder, (file, content, _) in zip(folders, FILES, strict=True):
        (folder / file).write_bytes(content())
    for said, (file, _, says) in zip(set_off("run", *folders), FILES, strict=True):
        assert said.startswith("refused:" if says else "read:"), (file, said)
        assert says in said, file


def test_a_journal_that_is_too_large_is_refused_without_being_read(tmp_path):
    from nas.errors import UsageError
    from nas.runs.study_access import check_journal
    from nas.utils import limits

    with (tmp_path / "study.journal").open("wb") as file:
        file.truncate(limits.JOURNAL_BYTES + 1)  # a hole: no byte of it is on the disk
    with pytest.raises(UsageError, match="are too many for a journal"):
        check_journal(tmp_path / "study.journal")


def test_devices_and_pipes_are_read_no_further_than_the_limit(tmp_path):
    from nas import load_space
    from nas.errors import UsageError
    from nas.utils.yaml_text import read_text

    with pytest.raises(UsageError, match="bytes are too many for a config"):
        read_text(Path("/dev/zero"))
    space = tmp_path / "space.yaml"
    space.write_text("space: a\nextends: /dev/zero\n")
    with pytest.raises(UsageError, match=r"extends '/dev/zero': .*not a file"):
        load_space(space)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for_and_one_with_a_writer_is_read(tmp_path, monkeypatch):
    from nas.errors import UsageError
    from nas.utils import limits
    from nas.utils.yaml_text import read_text

    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    monkeypatch.setattr(limits, "PIPE_SECONDS", 0.1)
    with pytest.raises(
        UsageError, match=r"config.yaml: is a pipe, and nobody opened it to write in 0.1 seconds; give a file"
    ):
        read_text(pipe)
    monkeypatch.setattr(limits, "PIPE_SECONDS", 60)
    writer = threading.Thread(target=lambda: pipe.write_bytes(CONFIG.encode()))
    writer.start()
    assert read_text(pipe) == CONFIG
    writer.join()
