// Initialisation of the page.

const read = (id) => ($(id) ? JSON.parse($(id).textContent) : null);

// Color scheme: light, dark, or that of the reader's system; stored for the next report if the browser allows it.
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
      // Not stored; the reader has to choose again next time.
    }
    tell("scheme");
  });
  document.body.prepend(make("label", { class: "scheme" }, "Colours ", select));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tell("scheme"));
  narrow.addEventListener("change", () => tell("scheme"));
}

// Start the parts of the page that exist and have not been started; on a live page, parts may be added later.
function startRun() {
  if (!page.run) return;
  startExplorer();
  startBudget();
  startTrials();
  const first = page.run.knee ?? (page.run.complete.length ? best(page.run.complete) : page.run.trials.find((trial) => trial.at !== null));
  if (!explorer.plot || explorer.cloud) return;
  if (first && !page.chosen) choose(first); // before the chart is drawn, which would have to be redrawn with the ring
  drawExplorer();
}

// A click on a card or a row of the front chooses its trial.
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
