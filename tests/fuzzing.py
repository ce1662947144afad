"""Inputs that nobody meant, for every reader of files: valid ones with nodes replaced, lines lost, bytes flipped, ends cut off.

`READERS` has for each kind of file a valid example and what reads it. An input is made by `mutated` from one number, so that a
finding is repeated by it. As a program, it feeds every reader so many inputs and says what came out:

    uv run python tests/fuzzing.py --inputs 100000 --seed 0
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from make_run import make_run

from nas.architecture import Architecture
from nas.errors import NasError

SECONDS = 60  # for one input; the slowest valid one takes less than one
MEMORY = 3 << 30  # bytes of address space that the program may take beyond what it begins with

NODES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, -(2**63), 2**64, 10**30, 10**400, 0.0, -0.5, 1.5, 1e308, float("inf")),
    *(float("nan"), "", " ", "x" * 5000, "../../x", "/etc/passwd", "a\0b", "a\nb", "\x1b[2J", "\ud800", "é", "‮"),
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "=cmd|'/c calc'!A1", "%s%n{0}", "null", "1e999"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"a": {"b": []}},
        [0] * 1000,
        list(range(11_000)),
        {str(k): k for k in range(300)},
    ),
]
BYTES = [
    *(
        b"\0",
        b"\xff",
        b"\xfe\xff",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b",",
        b":",
        b"- ",
        b"? ",
        b"{",
        b"[",
        b"}",
        b"]",
        b'"',
        b"'",
    ),
    *(
        b"&a ",
        b"*a",
        b"!!python/object/apply:os.system ['true']",
        b"!!binary x",
        b"<<: ",
        b"%YAML 9.9\n",
        b"---\n",
        b"...",
    ),
    *(
        b"1" * 5000,
        b"9" * 70,
        b"1e999",
        b".inf",
        b".nan",
        b"0x",
        b"1:1:1",
        b"2001-99-99",
        b"~",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"[" * 3000, b"{a: " * 500, b'{"a":' * 3000, b"#" * 3000, b"\x1f\x8b", b"PK\x03\x04", b"\x80\x04\x95"),
]


# -- inputs --------------------------------------------------------------------------------------------------------------


def mutated(valid: bytes, kind: str, random: Random) -> bytes:
    """Another input in place of `valid`, whose `kind` is yaml, json, lines (of JSON), zip, headed, or bytes of which nothing is known."""
    if random.random() < 0.02:
        return random.randbytes(random.randrange(200)) if hasattr(random, "randbytes") else b""
    data = valid
    if kind != "bytes" and random.random() < 0.7:
        data = _structured(valid, kind, random)
        if random.random() < 0.8:
            return data
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        data = _scrambled(data, random)
    return data


def _structured(valid: bytes, kind: str, random: Random) -> bytes:
    if kind == "lines":
        lines = valid.splitlines()
        for _ in range(random.choice((1, 1, 2, 3))):
            place = random.randrange(len(lines))
            what = random.randrange(5)
            if what == 0:
                del lines[place]
            elif what == 1:
                lines.insert(random.randrange(len(lines) + 1), lines[place])
            elif what == 2:
                lines.append(lines.pop(place))
            else:
                lines[place] = _structured(lines[place], "json", random)
            if not lines:
                return b""
        return b"\n".join(lines) + b"\n"
    if kind == "zip":
        return _zipped(valid, random)
    if kind == "headed":  # as safetensors: the length of the JSON in eight bytes, the JSON, the rest
        size = int.from_bytes(valid[:8], "little")
        head = _structured(valid[8 : 8 + size], "json", random)
        said = random.choice((len(head), len(head), len(head), random.randrange(1 << 63)))
        return said.to_bytes(8, "little") + head + valid[8 + size :]
    tree = [yaml.safe_load(valid) if kind == "yaml" else json.loads(valid)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(tree, random)
    if kind == "json" or random.random() < 0.3:
        try:
            return json.dumps(tree[0]).encode()
        except ValueError:  # an int of 400 digits is written; nothing else is refused
            return b"1" * 5000
    return yaml.dump(tree[0], Dumper=_Dumper, sort_keys=False).encode(errors="surrogatepass")


def _zipped(valid: bytes, random: Random) -> bytes:
    """An archive that is whole, with a member lost, doubled, renamed or scrambled, packed in some way."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = random.randrange(len(members))
    name, data = members[place]
    what = random.randrange(8)
    if what == 0:
        del members[place]
    elif what == 1:
        members.append((random.choice(["x_train.npy", "../x", "y_test.npy", "flip.npy", "x.npy", "data.pkl"]), data))
    elif what == 2:
        members[place] = name, random.choice(members)[1]
    else:
        for _ in range(random.choice((1, 1, 2, 4))):
            # Headers stand in front, and most of what matters is in them.
            data = _scrambled(data[:128], random) + data[128:] if random.random() < 0.7 else _scrambled(data, random)
        members[place] = name, data
    packed = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", random.choice(methods)) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, data in members:
            archive.writestr(name, data)
    return packed.getvalue()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _change(tree: list[Any], random: Random) -> None:
    """Replace, delete, double or move one node of a tree, in place."""
    holders: list[Any] = [tree]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [node for node in inner if isinstance(node, (dict, list)) and node]
    holder = random.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return
    key = random.choice(keys)
    what = random.randrange(10)
    if what == 0 and holder is not tree:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif what == 1:
        holder[random.choice(["", "x" * 300, "<b>", "a\nb", "\x1b]0;x\x07"])] = holder[key]
    elif what == 2:
        holder[key] = copy.deepcopy(random.choice(holders[: 1 + len(holders) // 2]))  # a part of it in a strange place
    elif what == 3 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] = random.choice([-holder[key], holder[key] + 1, holder[key] * 10**9, holder[key] // 3, "12"])
    else:
        holder[key] = copy.deepcopy(random.choice(NODES))


def _scrambled(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    end = min(len(data), place + random.choice((1, 1, 2, 8, 100, len(data))))
    what = random.randrange(6)
    if what == 0:
        return data[:place]
    if what == 1:
        return data[:place] + data[end:]
    if what == 2:
        return data[:end] + data[place:end] + data[end:]
    if what == 3:
        return data[:place] + random.choice(BYTES) + data[place:]
    if what == 4:
        return data[:place] + random.choice(BYTES) + data[end:]
    return data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]


# -- readers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """valid: an input that is read without an error. read: raises NasError for one that can't be. kind: as `mutated` has it.

    weight: its share of the inputs of a long run; what is slow or simple has less.
    """

    valid: bytes
    kind: str
    read: Callable[[bytes], object]
    weight: int = 10


SPACE = b"""space: fuzzed
description: A small space.
stages: 2
values:
  stem: [cifar, imagenet]
  stem_width: {from: 8, to: 32, step: 8}
  stage*.block: [basic, bottleneck, res2net]
  stage*.depth: {from: 1, to: 3}
  stage*.width: [16, 32, 64]
  stage2.stride: 2
  stage*.scale: {values: [2, 4], when: {block: res2net}}
  act: [relu, silu]
  resolution: [0.5, 1.0]
budgets: {params: {min: 100, max: 1e6}, flops: {max: 1.0e9}}
variants:
- {name: small, max_resolution: 64}
- {name: large, stages: 3, values: {stage*.stride: 2}}
"""
TABLE = "a,b,arch,accuracy,acc2,params,latency_ms\n" + "".join(
    f"{a},{b},{a}{b}{a},{0.5 + a / 10 + b / 100},{0.6 + b / 10},{100 * a + b},{1.5 + a}\n"
    for a in range(1, 4)
    for b in range(1, 4)
)


def readers(folder: Path) -> dict[str, Reader]:
    """All readers by name; `folder` is theirs to write to."""
    import torch
    from safetensors.torch import save

    from nas import zoo
    from nas.bench import table
    from nas.bench.folder import read_repeats
    from nas.bench.replay import Repeat
    from nas.commands.front import front_data
    from nas.export import EXPORTERS, export_trials
    from nas.findings import Layer, Moment, Outcome, Point
    from nas.report import training
    from nas.report.page import page
    from nas.run import Run, load_run
    from nas.settings import Settings
    from nas.space import load_space
    from nas.space_file import parse_overrides
    from nas.study import Study
    from nas.weights import read as read_weights
    from nas.work import Bench as _unused  # noqa: F401  (torch is loaded before memory is limited)

    run = make_run(folder / "run", trials=4, told=4, running=1)
    used = 0

    def written(name: str, data: bytes) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        return path

    def use(read: Run) -> None:
        """What commands make of a run that could be read."""
        nonlocal used
        used += 1
        if read.complete():
            front_data(read)
            read.best()
            read.dataframe()
            read.hypervolume_history()
            export_trials(read, read.front(), folder / "exported", EXPORTERS["yaml"], force=True)
        if used % 20 == 0:
            page(read)

    def of_run(name: str) -> Callable[[bytes], object]:
        """Reads the run with one of its files replaced, and puts the file back."""
        path = run / name
        valid = path.read_bytes() if path.exists() else b""

        def read(data: bytes) -> None:
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(data)
            try:
                use(load_run(run))
            finally:
                path.write_bytes(valid)

        return read

    def resumed(data: bytes) -> None:
        """Opens the run for going on, as `nas resume` does: in a copy, since that repairs and adopts."""
        own = folder / "resumed"
        shutil.rmtree(own, ignore_errors=True)
        shutil.copytree(run, own)
        (own / "study.journal").write_bytes(data)
        with Study(own, Settings.load(own)) as study:
            study.ask()

    def kept(name: str, kind: str, weight: int, valid: bytes | None = None) -> Reader:
        """The reader of a file of the run."""
        return Reader((run / name).read_bytes() if valid is None else valid, kind, of_run(name), weight)

    def path_of(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        return lambda data: read(written(name, data))

    epoch = json.loads((run / "trials" / "0" / "result.json").read_bytes())["epochs"][0]
    point = Point.from_dict({"epoch": epoch, "training_images": {"loss": 1.0, "accuracy": 0.5}})
    layers, moments = (Layer("stem", "Conv2d", 1, True),), (Moment(0, 2, (1.0,), (None,)),)
    compared = Outcome(0, "complete", "", (point,), layers, moments).to_dict()
    repeats = [Repeat("random", k, [1, 2], [0.1, 0.2], [0.01, 0.02], 2, 0, 0, 0, 0.03, 0.1).to_dict() for k in range(3)]
    network = zoo.get("resnet20")
    pickled, arrays = io.BytesIO(), io.BytesIO()
    tensors = {"stem.weight": torch.ones(4, 3, 3, 3), "bn.running_mean": torch.zeros(4), "n": torch.tensor(3)}
    torch.save({"state_dict": tensors}, pickled)
    plain = save(tensors, {"architecture": network.to_json(), "classes": '["a"]'})
    labels = np.arange(40) % 4
    images = np.zeros((40, 8, 8, 1), np.uint8)
    np.savez_compressed(arrays, x_train=images, y_train=labels, classes=np.array(list("abcd")))
    named = [{"file_name": f"{k}.png", "label": k % 2} for k in range(8)]
    as_csv = "".join(
        f"{row['file_name']},{row['label']}\n" for row in [{"file_name": "file_name", "label": "label"}, *named]
    )
    journal = (run / "study.journal").read_bytes()
    sessions = json.dumps([_SESSION] * 2).encode()
    (run / "sessions.json").write_bytes(sessions)
    running = str(next(run.glob("trials/*/epochs.json")).relative_to(run))
    extends = b"space: a\nextends: resnet\nvalues: {depth: [1, 2]}\n"

    def config(path: Path) -> str:
        return Architecture.from_yaml(path).digest

    return {
        "space": Reader(SPACE, "yaml", path_of("space.yaml", load_space), 20),
        "space that extends": Reader(extends, "yaml", path_of("extends.yaml", load_space), 4),
        "config.yaml": Reader(network.to_yaml().encode(), "yaml", path_of("c.yaml", config), 20),
        "config.json": Reader(network.to_json().encode(), "json", path_of("c.json", config), 10),
        "--set": Reader(
            b"stage*.block=[basic, res2net]", "bytes", lambda data: parse_overrides([data.decode(errors="replace")]), 10
        ),
        "run.yaml": kept("run.yaml", "yaml", 10),
        "sessions.json": kept("sessions.json", "json", 4),
        "journal": kept("study.journal", "lines", 12),
        "journal of a resumed run": Reader(journal, "lines", resumed, 3),
        "trial's result.json": kept("trials/0/result.json", "json", 6),
        "baseline's result.json": kept("baselines/resnet20/result.json", "json", 4),
        "epochs.json": kept(running, "json", 4),
        "training's result.json": Reader(
            json.dumps(_training_result(epoch)).encode(),
            "json",
            path_of("trained/result.json", lambda path: training.page(path.parent)),
            2,
        ),
        "comparison's result.json": Reader(json.dumps(compared).encode(), "json", _outcome, 10),
        "repeats.jsonl": Reader(_lines(repeats), "lines", path_of("repeats.jsonl", read_repeats), 10),
        "table": Reader(TABLE.encode(), "bytes", path_of("t.csv", lambda path: table.read(str(path))), 20),
        "npz": Reader(arrays.getvalue(), "zip", path_of("d.npz", lambda path: _data(f"npz:{path}", folder)), 10),
        "metadata.csv": Reader(
            as_csv.encode(), "bytes", lambda data: _images(folder / "csv", "metadata.csv", data), 10
        ),
        "metadata.jsonl": Reader(
            _lines(named), "lines", lambda data: _images(folder / "jsonl", "metadata.jsonl", data), 10
        ),
        "weights.pth": Reader(pickled.getvalue(), "zip", path_of("w.pth", lambda path: read_weights(str(path))), 10),
        "weights.safetensors": Reader(
            plain, "headed", path_of("w.safetensors", lambda path: read_weights(str(path))), 10
        ),
    }


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


_SESSION = {
    "begun": 1.0,
    "startup_seconds": 1.0,
    "search_seconds": 9.0,
    "training_seconds": 8.0,
    "workers": 1,
    "exhausted": False,
}


def _outcome(data: bytes) -> None:
    from nas.findings import Outcome
    from nas.plausible import reading

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):  # as nas.comparison has it
        with reading("result.json"):
            Outcome.from_dict(found)


def _data(name: str, folder: Path) -> None:
    from nas import data

    data.load(name, root=folder / "data")


def _images(folder: Path, name: str, content: bytes) -> None:
    from PIL import Image

    if not folder.exists():
        folder.mkdir()
        for k in range(8):
            Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"{k}.png")
    (folder / name).write_bytes(content)
    _data(f"imagefolder:{folder}", folder.parent)


def _training_result(epoch: dict[str, Any]) -> dict[str, Any]:
    from test_report_training import make_result

    return {**make_result(np.array([[3, 1], [2, 4]], np.int64), ["a", "b"]), "epochs": [epoch]}


# -- the program ---------------------------------------------------------------------------------------------------------


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """TimeoutError, wherever the code is, after so many seconds."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(reader: Reader, data: bytes) -> str:
    """`read`, or the type of the clear error. Any other exception comes out; an error that is not clear is an AssertionError."""
    try:
        with within(SECONDS):
            reader.read(data)
    except NasError as error:
        text = str(error)
        assert text.strip(), "an error without words"
        assert len(text) < 4000, f"an error of {len(text):,} characters: {text[:300]}"
        assert "\n" not in text.strip(), f"an error of several lines: {text[:300]!r}"
        return type(error).__name__
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="over all readers, by their weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="only this one; may be repeated")
    asked = parser.parse_args()
    findings: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="nas-fuzzing-") as place:
        made = readers(Path(place))
        made = {name: reader for name, reader in made.items() if not asked.reader or name in asked.reader}
        for name, reader in made.items():
            assert outcome(reader, reader.valid) == "read", name
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        total = sum(reader.weight for reader in made.values())
        for name, reader in made.items():
            ends: Counter[str] = Counter()
            begun, slowest = time.monotonic(), 0.0
            for number in range(asked.inputs * reader.weight // total):
                seed = f"{asked.seed}:{name}:{number}"
                data = mutated(reader.valid, reader.kind, Random(seed))
                started = time.monotonic()
                try:
                    ends[outcome(reader, data)] += 1
                except Exception as error:
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    what = f"{name}: {type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {str(error)[:150]!r}"
                    if not findings[what]:
                        print(f"FOUND {what}\n  seed {seed}\n  {data[:300]!r}", flush=True)
                    findings[what] += 1
                slowest = max(slowest, time.monotonic() - started)
            said = ", ".join(f"{count:,} {end}" for end, count in sorted(ends.items()))
            print(f"{name}: {said}; {time.monotonic() - begun:.0f} s, slowest {slowest:.2f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.inputs:,} inputs, {len(findings)} findings; at most {peak:,.0f} MiB resident")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
