"""The JSON Schema of configs: what is exported validates, mistakes don't, and it says the same as the reader of configs."""

from __future__ import annotations

import copy
import json

import pytest
from helpers_export import small_designs, space_designs, zoo_designs
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from strategies import architectures

from nas.errors import UsageError
from nas.interop.export import EXPORTERS
from nas.interop.export.schema import FILE, config_schema
from nas.networks.architecture import Architecture
from nas.utils.yaml_text import parse_yaml

SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_file_that_ships_is_of_this_release():
    assert config_schema() == SCHEMA, "run python -m nas.interop.export.schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", ["yaml", "json"])
def test_configs_of_the_zoo_and_of_every_space_validate(name):
    for architecture in (*zoo_designs().values(), *space_designs(5).values(), *small_designs().values()):
        text = EXPORTERS[name](architecture, {"run": "a run", "trial": 3})
        VALIDATOR.validate(parse_yaml(text, "exported"))


@given(architecture=architectures())
@settings(max_examples=60)
def test_any_config_validates(architecture):
    VALIDATOR.validate(json.loads(EXPORTERS["json"](architecture, {})))


def test_kinds_may_stand_alone():
    stages = [{"depth": 1, "width": 8, "branch": "basic"}]
    VALIDATOR.validate({"resolution": 8, "stem": "cifar", "stages": stages, "head": "linear"})


CONFIG = json.loads(EXPORTERS["json"](small_designs()["bottleneck"], {}))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("resolution",), 0),
        (("resolution",), 3.5),
        (("resolution",), None),
        (("channels",), True),
        (("version",), 2),
        (("norm_eps",), 0),
        (("colour",), "red"),
        (("stages",), []),
        (("stages", 0, "depth"), "3"),
        (("stages", 0, "stride"), -1),
        (("stages", 0, "widht"), 8),
        (("stages", 0, "branch"), "botleneck"),
        (("stages", 0, "branch", "kind"), "basic"),
        (("stages", 0, "branch", "order"), "behind"),
        (("stages", 0, "branch", "group_width"), 0),
        (("stages", 0, "branch", "se_ratio"), 1.5),
        (("stages", 0, "merge", "drop"), 0.99),
        (("stages", 0, "shortcut", "kind"), "none"),
        (("stem", "act"), "tanh"),
        (("head", "classes"), 0),
        (("head",), {"classes": 3}),
    ],
)
def test_mistakes_don_t_validate_and_are_refused_by_the_reader_too(place, value):
    config = copy.deepcopy(CONFIG)
    *path, last = place
    inner = config
    for key in path:
        inner = inner[key]
    inner[last] = value
    assert not VALIDATOR.is_valid(config)
    with pytest.raises(UsageError):
        Architecture.from_dict(config)


@pytest.mark.parametrize("missing", ["resolution", "stem", "stages", "head"])
def test_what_is_needed_must_be_there(missing):
    assert not VALIDATOR.is_valid({key: value for key, value in CONFIG.items() if key != missing})
