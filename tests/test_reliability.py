"""The page of faults as its tests write it."""

from __future__ import annotations

from pathlib import Path

from reliability import BEGIN, END, Fault, Faults, rewritten

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"


def test_rows_replace_those_of_their_fault_and_keep_the_others():
    text = rewritten(
        f"above\n{BEGIN}\n{END}\nbelow\n", [Fault("a", "kill", 0, 0, 1, "goes on"), Fault("b", "x|y", 0, 0, 0, "")]
    )
    renewed = rewritten(text, [Fault("a", "kill", 0, 0, 0, "goes on")])
    assert renewed.splitlines()[4:6] == ["| a | kill | 0 | 0 | 0 | goes on |", "| b | x\\|y | 0 | 0 | 0 |  |"]
    assert renewed.startswith("above\n") and renewed.endswith("below\n")
    assert rewritten(renewed, []) == renewed


def test_a_fault_made_several_times_keeps_the_worst():
    faults = Faults()
    for lost, twice in ((0, 1), (0, 0)):
        faults.record("a", made="kill", lost=lost, trained_twice=0, epochs_twice=twice, then="goes on")
    assert faults.rows["a"].epochs_twice == 1


def test_no_fault_on_the_page_loses_a_trial():
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
    for row in table:
        _, _, lost, twice, _, _ = (cell.strip() for cell in row.strip("| ").replace("\\|", "/").split(" | "))
        assert (lost, twice) == ("0", "0"), row
