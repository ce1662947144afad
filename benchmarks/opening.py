"""Seconds that pages take to open in Chromium and to respond, until the frames are painted.

Opening: from navigation until the first paint; until the first chart and its panel are painted; until all charts are drawn.
Responses, after the last chart is drawn: from an input event until its effect is painted: pointing at a trial, clicking it, dragging
the budget's slider, another axis, filtering, sorting and scrolling the table of all trials. The pages alternate, offline, each
in a separate context of one running browser, which has no GPU.

uv run python benchmarks/opening.py 10 old.html new.html
uv run python benchmarks/opening.py 5 --made 10000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

WATCH = """
const painted = (then) => requestAnimationFrame(() => requestAnimationFrame(() => then(performance.now())));
const all = () => [...document.querySelectorAll('.chart')].every((chart) => chart.querySelector('svg[role=img]'));
window.opened = {};
const look = () => {
  if (!window.seen && document.querySelector('#explorer[data-cloud]') && document.querySelector('#detail h3')) {
    window.seen = true;
    painted((at) => { window.opened.chart = at; });
  }
  if (window.opened.chart && !window.whole && document.readyState === 'complete' && all()) {
    window.whole = true;
    painted((at) => { window.opened.all = at; });
  }
};
new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});
// From the first event of a kind until the changed text of an element has been painted.
window.arm = (kind, selector) => {
  const text = () => document.querySelector(selector)?.textContent ?? '';
  const before = text();
  let began = null;
  window.answered = null;
  addEventListener(kind, (event) => { began ??= event.timeStamp; }, {capture: true, once: true});
  const observer = new MutationObserver(() => {
    if (began === null || text() === before) return;
    observer.disconnect();
    painted((at) => { window.answered = at - began; });
  });
  observer.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
};
"""
# Positions in the window of trials without another trial within 40 pixels, so that the trial under the pointer is known.
ALONE = """(count) => {
  const plot = document.getElementById('explorer');
  plot.scrollIntoView({block: 'center', behavior: 'instant'});
  const {columns} = JSON.parse(document.getElementById('run').textContent);
  const {xaxis, yaxis} = plot._fullLayout;
  const {left, top} = plot.getBoundingClientRect();
  const [x, y] = [xaxis._offset, yaxis._offset];
  const at = columns.params.map((cost, k) => [x + xaxis.d2p(cost), y + yaxis.d2p(columns.accuracy[k])]);
  const [right, bottom] = [plot.clientWidth, plot.clientHeight];
  const inside = at.filter(([x, y]) => x > 60 && x < right - 20 && y > 20 && y < bottom - 60).map(([x, y]) => [left + x, top + y]);
  const found = [];
  for (const one of inside) {
    if (found.every((other) => Math.hypot(one[0] - other[0], one[1] - other[1]) > 40)) found.push(one);
    if (found.length === count) break;
  }
  return found;
}"""


def timed(page: Page, kind: str, selector: str, act: Callable[[], Any]) -> float:
    page.evaluate("([kind, selector]) => window.arm(kind, selector)", [kind, selector])
    act()
    page.wait_for_function("() => window.answered !== null", timeout=10_000, polling=20)
    return float(page.evaluate("() => window.answered")) / 1000


def answers(page: Page, each: int) -> Iterator[tuple[str, float]]:
    """Names and seconds of a reader's actions, `each` times for each kind."""
    places = page.evaluate(ALONE, 2 * each)
    for x, y in places[:each]:
        page.mouse.move(4, 4)
        yield "pointing at a trial", timed(page, "pointermove", ".tip", lambda x=x, y=y: page.mouse.move(x, y))
    for x, y in places[each:]:
        page.mouse.move(x, y)
        yield "clicking a trial", timed(page, "pointerup", "#detail h3", lambda x=x, y=y: page.mouse.click(x, y))
    for cost in ("macs", "activations", "params"):
        yield (
            "another axis",
            timed(page, "change", "#explorer .xtitle", lambda c=cost: page.select_option("#explorer-cost", c)),
        )
    slider = page.locator("#budget")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] - 8, y)
    page.mouse.down()
    for k in range(each):
        x = box["x"] + box["width"] * (0.8 - 0.6 * k / each)
        yield "moving the slider", timed(page, "input", "#budget-pick", lambda x=x: page.mouse.move(x, y))
    page.mouse.up()
    page.locator("#trials-text").scroll_into_view_if_needed()
    for words in ("bottleneck", "stem 16 zero", "bottleneck 2x", "16", "none such"):
        page.fill("#trials-text", "")
        page.focus("#trials-text")
        yield "filtering", timed(page, "input", "#trials-count", lambda w=words: page.keyboard.insert_text(w))
    page.fill("#trials-text", "")
    for name in ("accuracy", "params", "about", "seconds", "accuracy"):
        button = page.locator(f"#trials-table [data-sort={name}]")
        yield "sorting", timed(page, "click", "#trials-body", button.click)
    page.locator("#trials-scroll").hover()
    for k in range(each):
        down = 5000 * (-1) ** k
        yield "scrolling the table", timed(page, "wheel", "#trials-body", lambda d=down: page.mouse.wheel(0, d))


def made(trials: int, folder: Path) -> Path:
    """Write the page of a synthetic run of so many trials without training, as in the tests, and print the time for it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import make_run

    from nas import report
    from nas.runs.run import load_run

    make_run.EPOCH_COUNT = 10
    path = make_run.make_run(folder / f"{trials}-trials", trials=trials, baselines=("resnet20", "resnet56"))
    begun = time.perf_counter()
    run = load_run(path)
    read = time.perf_counter()
    page = report.write(run, folder / f"{trials}-trials.html")
    print(
        f"{trials:,} trials: read in {read - begun:.1f} s, drawn and written in {time.perf_counter() - read:.1f} s",
        flush=True,
    )
    return page


def visit(page: Page, path: Path, each: int) -> Iterator[tuple[str, float]]:
    page.add_init_script(WATCH)
    page.goto(path.absolute().as_uri(), wait_until="commit")
    page.wait_for_function("() => window.opened.all", timeout=300_000)
    yield (
        "first paint",
        page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000,
    )
    yield "first chart and panel", page.evaluate("() => window.opened.chart") / 1000
    yield "all charts", page.evaluate("() => window.opened.all") / 1000
    if each:
        yield from answers(page, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=int)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--made", type=int, action="append", default=[], help="trials of a run that is made up")
    parser.add_argument("--each", type=int, default=5, help="responses of each kind, each time; 0: only opening")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = [*asked.pages, *(made(trials, Path(folder)) for trials in asked.made)]
        seconds: dict[Path, dict[str, list[float]]] = {page: {} for page in pages}
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(asked.times):
            for path, found in seconds.items():
                context = browser.new_context(
                    viewport={"width": 1280, "height": 900}, offline=True, reduced_motion="reduce"
                )
                for name, taken in visit(context.new_page(), path, asked.each):
                    found.setdefault(name, []).append(taken)
                context.close()
        browser.close()
        for path, found in seconds.items():
            print(
                f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB\n\n| seconds until | median | mean ± s.d. | min to max | n |"
            )
            print("|---|---|---|---|---|")
            for name, taken in found.items():
                spread = f" ± {statistics.stdev(taken):.3f}" if len(taken) > 1 else ""
                print(
                    f"| {name} | {statistics.median(taken):.3f} | {statistics.mean(taken):.3f}{spread} "
                    f"| {min(taken):.3f} to {max(taken):.3f} | {len(taken)} |"
                )


if __name__ == "__main__":
    main()
