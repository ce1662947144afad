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
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import yaml
from fuzz_readers import Reader, readers

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
