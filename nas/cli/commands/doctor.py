"""`nas doctor`: checks a run folder or this machine, and repairs a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nas.cli.commands.options import examples, json_option
from nas.errors import UsageError

if TYPE_CHECKING:
    from nas.runs.doctor import Finding

STYLES = {"needs you": "bold red", "repairable": "yellow", "warning": "yellow", "repaired": "green"}


@click.command(
    epilog=examples(
        "nas doctor", "nas doctor results/my-run", "nas doctor results/my-run --repair", "nas doctor --json"
    )
)
@click.argument("run", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--repair", is_flag=True, help="Repair what can be repaired without loss; copies of changed files are kept."
)
@json_option
def doctor(run: Path | None, repair: bool, as_json: bool) -> int:
    """Check a run's folder, or without RUN this machine and its installed packages.

    Nothing is changed without --repair, so a run can be checked while it is in progress. The exit code is 0 if no problem is
    left, apart from warnings, and 1 if a problem is left that keeps the run or the machine from working.
    """
    from nas.execution.machine_check import examine_machine
    from nas.runs.doctor import examine, healthy

    if run is None:
        if repair:
            raise UsageError("--repair: repairs a run; name its folder, as in nas doctor results/my-run --repair")
        findings = examine_machine()
    else:
        findings = examine(run, repair=repair)
    well = healthy(findings)
    if as_json:
        from nas.cli.commands.output import print_json

        print_json(
            {
                "run": None if run is None else str(run.absolute()),
                "healthy": well,
                "findings": [finding.to_dict() for finding in findings],
            }
        )
    else:
        _print(run, findings, well)
    return 0 if well else 1


def _print(run: Path | None, findings: list[Finding], well: bool) -> None:
    from nas.cli.commands.output import say
    from nas.utils.text import shown

    what = "This machine" if run is None else shown(run)
    for finding in findings:
        say(f"{finding.level:>10}  {finding.where}: {finding.what}", style=STYLES.get(finding.level, ""))
        if finding.advice:
            say(f"{'':>10}  -> {finding.advice}")
    counts = {level: sum(finding.level == level for finding in findings) for level in (*STYLES, "note")}
    counted = ", ".join(_counted(count, level) for level, count in counts.items() if count)
    if findings:
        say()
    if well:
        say(f"{what}: healthy{f' ({counted})' if counted else ''}.")
        return
    say(f"{what}: not well ({counted}).", style="bold")
    if run is not None and counts["repairable"]:
        say(f"`nas doctor {what} --repair` repairs what can be repaired.")


def _counted(count: int, level: str) -> str:
    return f"{count} {level}{'s' if count > 1 and level in ('warning', 'note') else ''}"
