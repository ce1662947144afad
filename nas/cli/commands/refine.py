"""`nas refine`: derives a narrower space for the next search from the trials of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import examples, json_option, run_argument
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.analysis.refine import Refinement
    from nas.runs.run import Run

FILE = "refined.yaml"


@click.command(
    epilog=examples(
        "nas refine results/my-run",
        "nas refine results/my-run --out spaces/second.yaml && nas search --space spaces/second.yaml",
        "nas refine results/my-run --json",
    )
)
@run_argument
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="The space file.  [default: RUN/refined.yaml]"
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@json_option
def refine(run: Path, out: Path | None, force: bool, as_json: bool) -> None:
    """Write a narrower space file from the trials of a run, and print the reason of each narrowing.

    A value is dropped if its trials are significantly worse at matched cost, or significantly rarer near the front, after
    correction for all tests; values on the present front are always kept. If nothing can be narrowed, nothing is written, and
    that is no error. The error distributions before and after are printed.
    """
    from nas.analysis.refine import refine as find
    from nas.analysis.space_yaml import write_out
    from nas.cli.commands.inputs import check_folder, read_run
    from nas.cli.commands.output import print_json
    from nas.utils.files import write_text
    from nas.utils.text import shown

    read = read_run(run)
    target = read.path / FILE if out is None else out
    if target.is_dir():
        raise UsageError(f"--out {target}: a folder; name the file, as in {target / FILE}")
    if target.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--out {target}: name a YAML file, as in {target.with_suffix('.yaml')}")
    if target.exists() and not force:
        raise UsageError(f"{shown(target.absolute())}: exists; name another --out, or overwrite it with --force")
    check_folder(target.parent)
    refinement = find(read)
    written: list[Path] = []
    if refinement.narrowings:
        made = write_out(read, refinement, target.name)
        base = target.with_name(made.extends)
        if made.base and base.exists() and not force:
            raise UsageError(f"{shown(base.absolute())}: exists; name another --out, or overwrite it with --force")
        if made.base:
            write_text(base, made.base)
            written.append(base)
        write_text(target, made.text)
        written.insert(0, target)
    if as_json:
        print_json(_data(read, refinement, written))
    else:
        _print(read, refinement, written)


def _data(run: Run, refinement: Refinement, written: list[Path]) -> dict[str, object]:
    compared = refinement.before_after
    return {
        "run": run.config["name"],
        "trials": refinement.trials,
        "inside": refinement.inside,
        "tested": refinement.tested,
        "written": [str(path.absolute()) for path in written],
        "narrowings": [
            {
                "knob": narrowing.knob,
                "kept": list(narrowing.kept),
                "dropped": [
                    {
                        "value": drop.row.value,
                        "trials": drop.row.trials,
                        "worth": drop.row.worth,
                        "near": drop.row.near,
                        "near_expected": drop.row.near_expected,
                        "q_worse": drop.q_worse,
                        "q_rare": drop.q_rare,
                        "reason": drop.reason,
                    }
                    for drop in narrowing.dropped
                ],
            }
            for narrowing in refinement.narrowings
        ],
        "error": None
        if compared is None
        else [
            {
                "set": curve.name,
                "trials": curve.trials,
                "quantiles": {
                    str(q): dict(zip(("value", "low", "high"), span, strict=True))
                    for q, span in curve.quantiles.items()
                },
            }
            for curve in compared.curves
        ],
    }


def _print(run: Run, refinement: Refinement, written: list[Path]) -> None:
    from nas.analysis.marginals import LEAST
    from nas.analysis.space_yaml import edf_sentences
    from nas.cli.commands.output import print_table, say
    from nas.utils.text import counted, shown

    name = run.config["name"]
    if not refinement.narrowings:
        few = f" At least {LEAST} trials are needed." if refinement.trials < LEAST else ""
        say(
            f"{name}: nothing to narrow. No evidence against any value in {counted(refinement.trials, 'complete trial')}"
            f" ({refinement.tested:,} tested).{few} Nothing was written."
        )
        return
    say(f"{name}: {refinement.trials:,} complete trials, {refinement.tested:,} values tested\n", style="bold")
    rows = [
        (narrowing.knob, ", ".join(map(str, narrowing.kept)), str(drop.row.value), drop.reason)
        for narrowing in refinement.narrowings
        for drop in narrowing.dropped
    ]
    print_table(("Knob", "Kept", "Dropped", "Reason"), rows)
    say()
    for sentence in edf_sentences(refinement):
        say(sentence)
    say(
        f"{refinement.inside:,} of the {refinement.trials:,} trials lie in the narrowed space. These trials also chose the space, which"
        " flatters it; not so “chosen by other trials”: each fifth of the trials, in the space that the other four fifths chose."
    )
    files = " and ".join(shown(path.absolute()) for path in written)
    say(f"\nWrote {files}. To search it: nas search --space {shown(written[0].absolute())}")
