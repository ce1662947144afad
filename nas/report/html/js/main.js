// What happens when the page opens.

const read = (id) => ($(id) ? JSON.parse($(id).textContent) : null);

// Light, dark, or as the reader's system has it; kept for the next report if the browser lets a page keep anything.
function startScheme() {
  const kept = (() => {
    try {
      return localStorage.getItem("nas-scheme");
    } catch {
      return null;
    }
  })();
  const select = make("select", { id: "scheme", "aria-label": "Colours" });
  for (const [value, name] of [["", "as the system"], ["light", "light"], ["dark", "dark"]]) select.append(make("option", { value }, name));
  const set = (scheme) => {
    if (scheme) root.dataset.scheme = scheme;
    else delete root.dataset.scheme;
  };
  if (kept === "light" || kept === "dark") set((select.value = kept));
  select.addEventListener("change", () => {
    set(select.value);
    try {
      localStorage.setItem("nas-scheme", select.value);
    } catch {
      // Then it is chosen again next time.
    }
    tell("scheme");
  });
  document.body.prepend(make("label", { class: "scheme" }, "Colours ", select));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tell("scheme"));
  narrow.addEventListener("change", () => tell("scheme"));
}

// Whatever of the page is there and not at work yet: on a live page, parts come later.
function startRun() {
  if (!page.run) return;
  startExplorer();
  startBudget();
  startTrials();
  const first = page.run.knee ?? (page.run.complete.length ? best(page.run.complete) : page.run.trials.find((trial) => trial.at !== null));
  if (!explorer.plot || explorer.cloud) return;
  if (first && !page.chosen) choose(first); // before the chart, which would be drawn again with the ring around it
  drawExplorer();
}

// A card or a row of the front that stands for a trial chooses it.
document.addEventListener("click", (event) => {
  const number = event.target.closest("[data-trial]")?.dataset.trial;
  const trial = number !== undefined && page.run?.trials.find((one) => one.number === Number(number));
  if (trial) {
    choose(trial);
    $("explorer")?.scrollIntoView({ behavior: still.matches ? "auto" : "smooth", block: "nearest" });
  }
});

startScheme();
startLive();
page.run = $("run") && unpack(read("run"));
startRun();
showFigures(read("figures") ?? []);
