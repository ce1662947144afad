"""Reading tables of trained networks: what is inferred, what is merged, and one clear line for each wrong file."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.bench import table as module
from nas.bench.replay import Space, distribution
from nas.bench.score import Scale
from nas.bench.table import Columns, read
from nas.errors import UsageError
from nas.pareto.dominance import front

PLAIN = """depth,kind,acc0,acc1,params,flops,note
2,a,50,52,100,1000,x
2,b,60,61,200,1500,x
4,a,70,69,300,1200,x
4,b,80,82,400,4000,x
8,a,79,80,390,3000,y
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str | bytes, name: str = "t.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_columns_are_inferred(written):
    table = read(written(PLAIN))
    assert [(own.name, own.values, own.ordered) for own in table.choices] == [
        ("depth", (2, 4, 8), True),
        ("kind", ("a", "b"), False),
        ("note", ("x", "y"), False),
    ]
    assert table.columns.accuracy == ("acc0", "acc1") and table.columns.costs == ("params", "flops")
    assert table.score.tolist() == [51, 60.5, 69.5, 81, 79.5]
    assert table.costs[3].tolist() == [400, 4000]
    assert (table.networks, table.combinations) == (5, 12)


def test_columns_are_told(written):
    told = Columns(
        choices=("depth", "kind"), categorical=("depth",), accuracy=("acc1",), score="acc0", costs=("flops",)
    )
    table = read(written(PLAIN), told)
    assert [(own.values, own.ordered) for own in table.choices] == [(("2", "4", "8"), False), (("a", "b"), False)]
    assert table.accuracy.shape == (5, 1) and table.score[0] == 50 and table.accuracy[0, 0] == 52
    assert table.columns.costs == ("flops",) and table.more_costs[:, 0].tolist() == [100, 200, 300, 400, 390]
    assert table.ignored == ("note",)


def test_a_word_is_split_into_choices_and_equal_networks_are_one(written):
    table = read(written("arch,acc,params\n00,50,10\n01,60,20\n10,60,20\n11,70,30.0\n"))
    assert [own.name for own in table.choices] == ["arch.1", "arch.2"]
    assert all(own.values == ("0", "1") and not own.ordered for own in table.choices)
    assert table.networks == 3 and table.network_of[0, 1] == table.network_of[1, 0]
    assert "3 distinct networks" in table.describe()


def test_another_column_tells_networks_apart_unless_it_names_the_rows(written):
    rows = "arch,acc,params,std,id\n00,50,10,1,r1\n01,60,20,2,r2\n10,60,20,{},r3\n11,70,30,2,r4\n"
    assert read(written(rows.format(3))).networks == 4
    assert read(written(rows.format("2.0"))).networks == 3


def test_packed_and_plain_files_are_the_same_table(written):
    plain, packed = read(written(PLAIN)), read(written(gzip.compress(PLAIN.encode()), "p.csv.gz"))
    assert plain.network_of == packed.network_of and np.array_equal(plain.costs, packed.costs)
    assert plain.digest == packed.digest


def test_the_shipped_table_needs_no_options():
    table = read("nas-bench-macro")
    assert table.networks == 3969 and len(table.network_of) == table.combinations == 3**8
    assert [len(own.values) for own in table.choices] == [3] * 8
    assert table.columns.accuracy == ("acc0", "acc1", "acc2") and table.columns.costs == ("params", "flops")
    best = int(table.score.argmax())
    assert table.score[best] == pytest.approx(93.1267, abs=1e-3)
    space = Space(table)
    assert all(space.network(space.params(network)) == network for network in range(0, table.networks, 97))


def test_whole_numbers_in_even_steps_are_a_range(written):
    from optuna.distributions import CategoricalDistribution, IntDistribution

    table = read(written("a,b,c,acc,macs\n1,1,x,1,5\n3,2,y,2,6\n5,4,x,3,7\n"), Columns(choices=("a", "b", "c")))
    assert [distribution(own) for own in table.choices] == [
        IntDistribution(1, 5, step=2),
        CategoricalDistribution((1, 2, 4)),
        CategoricalDistribution(("x", "y")),
    ]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "is empty"),
        ("\n\n", {}, "is empty"),
        ("arch,acc,params\n", {}, "has no rows"),
        ("arch,acc,acc\n00,1,2\n", {}, "two columns are called 'acc'"),
        ("arch,,params\n00,1,2\n", {}, "column 2 has no name"),
        ("arch,acc,params\n00,1,2\n01,1\n", {}, "line 3 has 2 cells; the first line names 3"),
        ("arch,acc,params\n00,x,2\n01,1,2\n", {}, "row 1: acc is 'x', not a finite number"),
        ("arch,acc,params\n00,1,2\n01,nan,2\n", {}, "row 2: acc is 'nan'"),
        ("arch,acc,params\n00,1,2\n01,,2\n", {}, "row 2: acc is ''"),
        ("arch,acc,params\n00,1,0\n01,1,2\n", {}, "params is 0; a cost must be above 0"),
        ("arch,acc,params\n00,1,1e999\n01,1,2\n", {}, "params is '1e999', not a finite number"),
        ("arch,acc,params\n00,1,2\n00,3,2\n", {}, "two rows have the same choices (arch.1=0, arch.2=0)"),
        ("arch,acc,params\n00,1,2\n00,1,2\n", {}, "holds a single network"),
        ("arch,acc,params\n00,1,2\n01,1,3\n", {"accuracy": ("ac",)}, "no column 'ac' (did you mean 'acc'?)"),
        ("arch,acc,params\n00,1,2\n01,1,3\n", {"costs": ("params", "params")}, "named twice"),
        ("arch,acc,params\n00,1,2\n01,1,3\n", {"costs": ("acc",), "accuracy": ("acc",)}, "two roles"),
        ("arch,acc,params\n00,1,2\n1,1,3\n", {"split": ("arch",)}, "words of one length"),
        ("arch,score,params\n00,1,2\n01,1,3\n", {}, "name the accuracies by --accuracy"),
        ("arch,acc,size\n00,1,2\n01,1,3\n", {}, "name the costs by --costs"),
        ("acc,params\n1,2\n1,3\n", {}, "name them by --choices"),
        (b"\xff\xfe\x00a", {}, "not UTF-8"),
        ('a,acc,params\n"x,1,2\n', {}, "line 2 has 1 cells"),
        ("arch,acc,params\n" + "".join(f"{k},{k},{k + 1}\n" for k in range(300)), {"choices": ("arch",)}, "300 values"),
    ],
)
def test_wrong_tables_are_one_line(written, text, columns, message):
    with pytest.raises(UsageError) as caught:
        read(written(text), Columns(**columns))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_table_is_said_to_be_none(written, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no such file \(did you mean 'nas-bench-macro'\?\)"):
        read("nas-bench-macr")
    with pytest.raises(UsageError, match="no such file"):
        read(str(tmp_path))
    with pytest.raises(UsageError, match="can't be read"):
        read(written(gzip.compress(PLAIN.encode())[:-20], "torn.gz"))
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="more than"):
        read(written(gzip.compress(b"0" * 1000), "bomb.gz"))
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    with pytest.raises(UsageError, match="more than 3 rows"):
        read(written(PLAIN))


@settings(max_examples=150)
@example(b'"\x00\n"\x00\r\x00')  # a line break in the name of a column
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='a1,.\n\r"-0e x\x00acc', max_size=120).map(str.encode)))
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for start in (b"", b"arch,acc,params\n"):
        path.write_bytes(start + data)
        try:
            table = read(str(path))
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            assert table.networks >= 2 and np.isfinite(table.costs).all()


@pytest.mark.parametrize("costs", [("params",), ("flops",), ("params", "flops")])
@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_the_whole_table_and_its_front_have_a_volume_of_one(costs, floor):
    table = read("nas-bench-macro", Columns(costs=costs))
    scale = Scale(table, floor)
    assert scale.share(range(table.networks)) == pytest.approx(1.0, abs=1e-12)
    best = front(scale.values, scale.directions)
    assert scale.share(best.tolist()) == pytest.approx(1.0, abs=1e-12)
    assert scale.share([]) == 0.0
    assert 0 < scale.share(best[-3:].tolist()) < 1


def test_costs_are_compared_by_ratio(written):
    scale = Scale(read(written("arch,acc,params\n0a,10,1000\n1a,20,10\n2a,20,100\n")), 0.0)
    assert scale.share([2]) == pytest.approx(0.5)


def test_a_table_without_a_volume_is_refused(written):
    with pytest.raises(UsageError, match="no network is better than the reference"):
        Scale(read(written("arch,acc,params\n0a,10,7\n1a,20,7\n")), 0.1)


def test_identities_of_the_shipped_table_do_nothing_behind_a_stages_first_layer():
    """Stages are of 2, 3 and 3 layers: a combination and the one with its identities moved to the stages' ends are one network."""
    table = read("nas-bench-macro")

    def moved(word: tuple[int, ...]) -> tuple[int, ...]:
        ends = []
        for first, end in ((0, 2), (2, 5), (5, 8)):
            rest = word[first + 1 : end]
            ends += [word[first], *(k for k in rest if k), *(k for k in rest if not k)]
        return tuple(ends)

    assert all(table.network_of[word] == table.network_of[moved(word)] for word in table.network_of)
    assert len({moved(word) for word in table.network_of}) == table.networks
