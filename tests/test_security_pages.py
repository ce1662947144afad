"""Every page that nas writes, in a real browser, with hostile names wherever a name can stand: nothing of them is run.

Each name tries to set `window.hit`, to open a dialog, to load something, or to end the element that it stands in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browsing import CHARTS
from helpers_report import make_trial, searched_run
from test_comparison import SMALL, findings_of, outcome_of
from test_report_training import make_result
from test_report_training import save as save_result

from nas.bench import table as tables
from nas.bench.folder import Folder
from nas.bench.page import page as bench_page
from nas.bench.replay import Protocol
from nas.report.comparison.page import page as comparison_page
from nas.report.run.page import page as run_page
from nas.report.training.page import page as training

pytestmark = pytest.mark.browser

NAMES = (
    "</script><script>window.hit=1</script>",
    '"><img src=x onerror="window.hit=2">',
    "'><svg onload=window.hit=3>",
    '<a href="javascript:window.hit=4">click</a>',
    "javascript:window.hit=5",
    "<!--<script>window.hit=6</script>",
    "]]><script>window.hit=7</script>",
    "%{customdata} %{meta} <extra><b onmouseover=window.hit=8>bold</b></extra>",
    "${window.hit=9}{{constructor.constructor('window.hit=10')()}}",
    "$\\href{javascript:window.hit=11}{x}$",
    "&lt;img src=x onerror=window.hit=12&gt;",
    "</style></title></textarea><iframe srcdoc='<script>parent.hit=13</script>'>",
    "\u202e\u2028\x1b[2Jnames",
)
ALL = " ".join(NAMES)


def of_run() -> str:
    run = searched_run(30, name=ALL, command=ALL, sampler=ALL, baselines=("resnet20",) * 1)
    data = {**run.config["dataset"], "name": ALL, "source": ALL, "classes": list(NAMES), "fingerprint": ALL, ALL: ALL}
    config = {
        **run.config,
        "dataset": data,
        "space": {"name": ALL, "variant": ALL, "text": "\n".join(NAMES)},
        "versions": {name: name for name in NAMES},
        "created": ALL,
        "device": ALL,
        "executor": {"kind": ALL, ALL: ALL},
        "baselines": [{"name": name} for name in NAMES],
    }
    labelled = [trial for trial in run.trials if trial.accuracy is not None][: len(NAMES)]
    names = {trial.number: name for trial, name in zip(labelled, NAMES, strict=False)}
    trials = [dataclasses.replace(trial, label=names.get(trial.number, trial.label)) for trial in run.trials]
    failed = [make_trial(900 + k, "failed", trials[0].architecture, 0.5, reason=name) for k, name in enumerate(NAMES)]
    return run_page(dataclasses.replace(run, config=config, trials=(*trials, *failed), path=Path("results") / ALL))


def of_training(folder: Path) -> str:
    confusion = np.arange(len(NAMES) ** 2).reshape(len(NAMES), len(NAMES)) % 7 + 1
    result = make_result(confusion.astype(np.int64), list(NAMES), name=ALL, device=ALL, precision=ALL)
    result["dataset"] |= {"name": ALL, "source": ALL, "fingerprint": ALL}
    result["versions"] = {name: name for name in NAMES}
    result["weights"] = {"source": ALL, "fingerprint": ALL}
    return training(save_result(folder, result))


def of_comparison(folder: Path) -> str:
    networks = [dataclasses.replace(SMALL, name=name) for name in NAMES if name.isprintable()]
    outcomes = [outcome_of([0.5, 0.4], gradients_=[[1.0] * 3] * 3)]
    failed = dataclasses.replace(SMALL, name=f"failed {NAMES[0]}")
    findings = findings_of(
        *((network, outcomes) for network in networks), (failed, [outcome_of([], state="failed", reason=ALL)])
    )
    data = {**findings.dataset, "name": ALL, "source": ALL}
    return comparison_page(dataclasses.replace(findings, dataset=data, device=ALL, versions={ALL: ALL}))


def of_bench(folder: Path) -> str:
    printable = [name.replace('"', "'") for name in NAMES if name.isprintable()]
    head = ",".join(
        f'"{name}"' for name in (*printable[:4], "accuracy", *(f"{name} params" for name in printable[4:6]))
    )
    rows = [
        ",".join(f'"{cell}"' for cell in (*(printable[(k + j) % 3] for j in range(3)), k, 0.5 + k / 50, 10 + k, 50 - k))
        for k in range(12)
    ]
    folder.mkdir()
    path = folder / "<img src=x onerror=window.hit=20>.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    costs = tuple(f"{name} params" for name in printable[4:6])
    found = tables.read(str(path), tables.Columns(choices=tuple(printable[:4]), costs=costs))
    with Folder(None, found, Protocol(budget=6), ["random", "local"], 2) as done:
        list(done.run(0))
        return bench_page(done, [])


PAGES: dict[str, Callable[[Path], str]] = {
    "run": lambda folder: of_run(),
    "training": of_training,
    "comparison": of_comparison,
    "bench": of_bench,
}


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_run_nothing(open_page, tmp_path, name):
    path = tmp_path / "page.html"
    path.write_text(PAGES[name](tmp_path / "made"), encoding="utf-8")
    page = open_page(path.as_uri())
    page.wait_for_function(CHARTS)
    assert page.locator(".chart").count() > 0
    for summary in page.locator("summary").all():
        summary.click()
    # Hover texts and links are made only where the pointer is.
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        for point in chart.locator(".points > path, .bars path, .point path").all()[:20]:
            box = point.bounding_box()
            if box:
                page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)  # an injected handler would have had its moment
    assert page.evaluate("window.hit") is None
    foreign = "img, iframe, object, embed, form, a[href^='javascript'], [onerror], [onload], [onmouseover], svg a"
    assert page.locator(foreign).count() == 0
    scripts = page.locator("script").evaluate_all(
        "(found) => found.map((one) => one.type || one.textContent.length > 1000)"
    )
    data = 2 if name == "run" else 1  # its figures, and there its trials too
    assert scripts == ["application/json"] * data + [True, True]  # Plotly, ours, and nothing short
    body = page.locator("body").text_content()
    assert "window.hit=1" in body  # the names are there, as text


def test_a_name_that_is_run_is_seen(browser, tmp_path):
    """What the tests above look for is found on a page that does not escape."""
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><title>x</title><p>{NAMES[1]}</p><script>window.hit = window.hit ?? 1</script>")
    page = browser.new_page(offline=True)  # it complains, as `open_page` would say
    page.goto(path.as_uri())
    page.wait_for_function("() => window.hit > 0")
    assert page.locator("img").count() == 1
    page.close()
