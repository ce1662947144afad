"""Exports: every format builds the same network again and says where it comes from; nothing is overwritten unasked."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from make_run import FINGERPRINT, make_run
from strategies import architectures

from nas.errors import UsageError
from nas.interop.export import EXPORTERS, export_trials, provenance
from nas.interop.export.trials import file_name
from nas.networks.architecture import MAX_NAME, Architecture
from nas.networks.build import cost_of
from nas.runs.run import Run, load_run

CONFIGS = ("yaml", "json")  # what our own programs read again
every_format = pytest.mark.parametrize("name", CONFIGS)
texts = st.text(max_size=30)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return load_run(make_run(tmp_path_factory.mktemp("runs") / "made", trials=8, fails=("3",)))


# -- formats ----------------------------------------------------------------------------------------------------------


@every_format
@given(architecture=architectures(), notes=st.dictionaries(st.text(min_size=1, max_size=10), plain, max_size=4))
@settings(max_examples=40)
def test_a_format_keeps_the_network_and_its_provenance(name, architecture, notes):
    text = EXPORTERS[name](architecture, notes)
    again = Architecture.from_yaml(text)
    assert again == architecture
    assert again.digest == architecture.digest
    assert cost_of(again) == cost_of(architecture)
    read = json.loads(text) if name == "json" else yaml.safe_load(text)
    assert read["provenance"] == notes


@every_format
def test_what_stands_twice_in_the_provenance_is_written_twice(name):
    """Configs are read without aliases, which YAML writes for a list that occurs twice."""
    shared = ["a", "b"]
    network = Architecture.from_yaml(EXPORTERS["yaml"](_network(), {}))
    text = EXPORTERS[name](network, {"first": shared, "second": shared})
    assert Architecture.from_yaml(text) == network


@every_format
def test_the_same_text_each_time(name):
    assert EXPORTERS[name](_network(), {"trial": 3}) == EXPORTERS[name](_network(), {"trial": 3})


def _network() -> Architecture:
    return Architecture.from_yaml(
        "stem: cifar\nresolution: 8\nstages: [{depth: 1, width: 8, branch: basic}]\nhead: linear\n"
    )


def test_an_exported_config_builds_equal_weights_and_logits(run, tmp_path):
    import torch

    from nas.networks.build import build

    trial = run.front()[0]
    for name in CONFIGS:
        (path,) = export_trials(run, [trial], tmp_path, EXPORTERS[name])
        images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        mine, theirs = (build(found, seed=4).eval() for found in (trial.architecture, Architecture.from_yaml(path)))
        with torch.inference_mode():
            assert torch.equal(mine(images), theirs(images))


# -- trials to files --------------------------------------------------------------------------------------------------


@every_format
def test_the_front_becomes_files_in_its_order(run, tmp_path, name):
    front = run.front()
    assert len(front) >= 3
    paths = export_trials(run, front, tmp_path / "new" / "folder", EXPORTERS[name])
    assert paths == sorted((tmp_path / "new" / "folder").iterdir())
    for rank, (trial, path) in enumerate(zip(front, paths, strict=True), 1):
        assert path.name.startswith(f"{rank:02}-trial{trial.number}-{100 * trial.accuracy:.2f}acc-")
        assert path.suffix == EXPORTERS[name].suffix
        assert Architecture.from_yaml(path).digest == trial.digest


def test_a_part_of_the_front_keeps_its_places(run, tmp_path):
    front = run.front()
    (path,) = export_trials(run, [front[2]], tmp_path, EXPORTERS["yaml"])
    assert path.name.startswith("03-")


def test_off_the_front_there_is_no_place_and_without_a_result_no_accuracy(run, tmp_path):
    failed = run.trial(3)
    (path,) = export_trials(run, [failed], tmp_path, EXPORTERS["yaml"])
    assert path.name.startswith("trial3-")
    assert "acc" not in path.name
    facts = yaml.safe_load(path.read_text())["provenance"]
    assert facts["state"] == "failed"
    assert facts["reason"] == failed.reason != ""
    assert facts["accuracy"] is None


def test_provenance_says_what_was_measured(run):
    trial = run.front()[-1]
    assert provenance(run, trial) == {
        "run": "made",
        "trial": trial.number,
        "state": "complete",
        "accuracy": trial.accuracy,
        "accuracy_on": "validation",
        "epochs": 3,
        "cost": {"params": trial.cost.params, "macs": trial.cost.macs, "activations": trial.cost.activations},
        "dataset": {"name": "digits", "fingerprint": FINGERPRINT},
        "objectives": ["accuracy", "params", "macs"],
        "recipe": dict(run.config["recipe"]),
        "nas": run.config["versions"]["nas"],
    }


def test_names_say_where_a_network_is_from(run, tmp_path):
    trial, baseline = run.front()[0], run.baselines()[0]
    first, second = export_trials(run, [trial, baseline], tmp_path, EXPORTERS["yaml"])
    assert Architecture.from_yaml(first).name == f"made trial {trial.number}"
    assert Architecture.from_yaml(second).name == "resnet20"


@given(label=st.text(min_size=1, max_size=60))
def test_any_label_gives_a_name_that_a_file_can_have(run, label):
    name = file_name(dataclasses.replace(run.baselines()[0], label=label), 1)
    assert name.isascii()
    assert not set(name) & set("/\\: \n\0*?\"<>|'")
    assert ".." not in name.split("-")


def test_the_name_of_a_run_with_an_endless_name_still_loads(run, tmp_path):
    long = dataclasses.replace(run, config={**run.config, "name": "x\n" * 300})
    (path,) = export_trials(long, [run.front()[0]], tmp_path, EXPORTERS["yaml"])
    name = Architecture.from_yaml(path).name
    assert len(name) == MAX_NAME
    assert name.endswith(f"trial {run.front()[0].number}")


def test_places_get_a_third_digit_where_they_need_it(run):
    assert file_name(run.front()[0], 7, digits=3).startswith("007-")


# -- overwriting ------------------------------------------------------------------------------------------------------


def test_writing_again_changes_nothing(run, tmp_path):
    paths = export_trials(run, run.front(), tmp_path, EXPORTERS["yaml"])
    before = [path.read_bytes() for path in paths]
    assert export_trials(run, run.front(), tmp_path, EXPORTERS["yaml"]) == paths
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("content", [b"mine: 1\n", b"\xff\xfe not text", b""])
def test_a_different_file_is_kept_unless_forced(run, tmp_path, content):
    front = run.front()
    victim = export_trials(run, front, tmp_path, EXPORTERS["yaml"])[1]
    for path in tmp_path.iterdir():
        path.unlink()
    victim.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{victim.name}: holds something else; --force"):
        export_trials(run, front, tmp_path, EXPORTERS["yaml"])
    assert list(tmp_path.iterdir()) == [victim], "nothing is written if something is in the way"
    assert victim.read_bytes() == content
    export_trials(run, front, tmp_path, EXPORTERS["yaml"], force=True)
    assert Architecture.from_yaml(victim).digest == front[1].digest


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_in_a_files_place_is_no_matter_of_force(run, tmp_path, force):
    front = run.front()
    victim = export_trials(run, front, tmp_path, EXPORTERS["yaml"])[1]
    for path in tmp_path.iterdir():
        path.unlink()
    victim.mkdir()
    with pytest.raises(UsageError, match=rf"{victim.name}: is a folder, which no file replaces; remove it or give"):
        export_trials(run, front, tmp_path, EXPORTERS["yaml"], force=force)
    assert list(tmp_path.iterdir()) == [victim]


def test_no_temporary_files_stay(run, tmp_path):
    paths = export_trials(run, run.front(), tmp_path, EXPORTERS["json"])
    assert set(tmp_path.iterdir()) == set(paths)
