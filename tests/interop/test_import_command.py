"""The command that imports files, and files of no format that it knows."""

from __future__ import annotations

import pytest
from helpers_cli import nas_, output, refusal
from helpers_subnets import SUBNETS, net

from nas.errors import UsageError
from nas.interop.importers import IMPORTERS, import_source
from nas.interop.importers.ofa import read_subnet
from nas.networks.architecture import Architecture
from nas.utils import limits

# -- the command, and what is none of it -------------------------------------------------------------------------------


def test_options_that_say_nothing_of_a_source_are_refused(tmp_path):
    path = net(tmp_path / "subnet.json", SUBNETS[0])
    said = refusal("import", path, "--space", "resnet")
    assert "--space says what a study's parameters are choices of" in said and "is read as ofa" in said
    said = refusal("import", "resnet50d")
    assert "resnet50d: no such file; a library's network is timm:NAME or torchvision:NAME" in said
    said = refusal("import", "timm:resnet18", "--from", "torchvision")
    assert "its beginning says timm, --from torchvision" in said


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_config_can_be_read_again_whatever_its_name_holds(suffix, tmp_path):
    """JSON writes an emoji as two escapes, which YAML takes for two broken characters."""
    path = net(tmp_path / "netz \N{GRINNING FACE}.json", SUBNETS[2])
    output("import", path, "--out", tmp_path / f"mine{suffix}")
    assert Architecture.from_yaml(tmp_path / f"mine{suffix}").name == path.stem


def test_every_importer_can_be_named_and_is_in_the_help():
    from nas.cli.commands.import_ import KINDS

    assert set(KINDS) == {"auto", *IMPORTERS}
    text = output("import", "--help")
    assert all(kind in text for kind in KINDS)


def test_a_config_can_be_printed_written_and_read_again(tmp_path):
    path = net(tmp_path / "subnet.json", SUBNETS[2])
    result = nas_("import", path)
    assert "says no size of images" in result.stderr
    (tmp_path / "printed.yaml").write_text(result.stdout)
    output("import", path, "--out", tmp_path / "mine.json")
    output("import", path, "--out", tmp_path / "folder")
    files = [tmp_path / "printed.yaml", tmp_path / "mine.json", tmp_path / "folder" / "subnet.yaml"]
    assert {Architecture.from_yaml(file).digest for file in files} == {
        read_subnet(SUBNETS[2], "", "").architecture.digest
    }
    assert output("import", path, "--out", tmp_path / "mine.json"), "the same again is fine"
    net(path, SUBNETS[1])
    assert "holds something else; --force overwrites it" in refusal("import", path, "--out", tmp_path / "mine.json")
    output("import", path, "--out", tmp_path / "mine.json", "--force")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"d":' * 100_000, "nested too deeply"),
        ('{"d": 1' + "0" * 5000 + ', "e": 0.2, "w": 1}', "a number of 5,001 characters"),
        ('{"best_structures": []}', "none of the sources that are read here"),
        ('{"best_structures": [[{"class": 1}]]}', "block 1.class must be a word, not 1"),
        ('{"best_structures": [[{"class": "ConvKXBNRELU", "in": 3, "out": 1e400, "k": 3, "s": 2}]]}', "not inf"),
        ('[{"class": "ConvKXBNRELU", "in": 3, "out": 8, "k": 3, "s": 2}, 7]', "block 2 must be a mapping, not 7"),
        ("MODEL: {TYPE: regnet}\nREGNET: &x {DEPTH: 3}\nOTHER: *x\n", "aliases"),
        ("MODEL: !!python/object/apply:os.system [ls]\n", "tags"),
        ("stem: {kind: cifar}\n", "none of the sources that are read here"),
        ("\x00\x01", "not readable as YAML"),
        ("", "none of the sources that are read here"),
    ],
)
def test_hostile_and_foreign_files_are_one_line(text, message, tmp_path):
    line = refusal("import", net(tmp_path / "file.json", text))
    assert message in line and len(line) < 4000


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = net(tmp_path / "sweep.json", "[" + " " * 5000 + "]")
    monkeypatch.setattr(limits, "RECORD_BYTES", 1000)
    assert "5,002 bytes are too many for a file to import (at most 1,000)" in refusal("import", path)


def test_a_kind_that_a_source_isnt_is_said(tmp_path):
    path = net(tmp_path / "subnet.json", SUBNETS[0])
    assert "MODEL.TYPE '' is no residual network of ours" in refusal("import", path, "--from", "pycls")
    assert "no best_structures" in refusal("import", path, "--from", "tinynas")
    with pytest.raises(UsageError, match="unknown kind of source 'nni'"):
        import_source(str(path), "nni")
