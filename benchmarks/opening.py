"""How long pages take to open in Chromium: from navigation until the first chart is drawn, its panel is filled and painted.

The pages take turns, offline, each in a context of its own of one running browser.

uv run python benchmarks/opening.py 10 old.html new.html
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from playwright.sync_api import sync_playwright

WATCH = """
const look = () => {
  if (window.seen || !document.querySelector('#explorer[data-cloud]') || !document.querySelector('#detail h3')) return;
  window.seen = true;
  requestAnimationFrame(() => requestAnimationFrame(() => { window.painted = performance.now(); }));
};
new MutationObserver(look).observe(document, {subtree: true, childList: true, attributes: true});
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=int)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    asked = parser.parse_args()
    seconds: dict[Path, list[float]] = {page: [] for page in asked.pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(asked.times):
            for path, taken in seconds.items():
                context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
                page = context.new_page()
                page.add_init_script(WATCH)
                page.goto(path.absolute().as_uri(), wait_until="commit")
                page.wait_for_function("() => window.painted", timeout=120_000)
                taken.append(page.evaluate("() => window.painted") / 1000)
                context.close()
        browser.close()
    for path, taken in seconds.items():
        spread = f" ± {statistics.stdev(taken):.2f}" if len(taken) > 1 else ""
        print(
            f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, median {statistics.median(taken):.2f} s, "
            f"mean {statistics.mean(taken):.2f}{spread} s, {min(taken):.2f} to {max(taken):.2f}, n = {len(taken)}"
        )


if __name__ == "__main__":
    main()
