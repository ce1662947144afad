// The panel of the chosen trial: numbers, diagram, cost by piece, learning curve, and commands for it.

function commandsOf(trial) {
  const { path, train } = page.run;
  const folder = quoted(`models/${trial.label.replace(/[^\w.-]+/g, "-") || `trial-${trial.number}`}`);
  const name = quoted(trial.label || String(trial.number));
  return [
    ["its config", `nas export ${path} --trial ${name} --out ${folder}`],
    ["trains it in full and tests it once", `nas train ${folder}/*.yaml ${train}`],
  ];
}

function standing(trial) {
  const { state, epochs, accuracy, reason } = trial;
  const of = page.run.epochs ? ` of ${page.run.epochs}` : "";
  if (accuracy !== null) return `${measured(trial)} validation accuracy${trial.front ? ", on the front" : ""}`;
  const reached = trial.at === null ? "" : `; ${formatPercent(trial.at)} % after epoch ${epochs}${of}`;
  return `${state}${reached}${reason ? `: ${cut(reason, 300)}` : ""}`;
}

// The accuracy in the search, and that of each further seed.
function againWords({ accuracy, repeats, estimate }) {
  const mean = estimate && !page.run.byMeans ? `, ${overSeeds(estimate)}` : "";
  const each = repeats.accuracies.map(formatPercent).join(", ") || "none yet";
  const failed = repeats.failed ? `; ${repeats.failed} failed` : "";
  return `${formatPercent(accuracy)} % in the search; from further seeds: ${each}${mean}${failed}.`;
}

function commandLine([purpose, command]) {
  const line = make("div", { class: "command" }, make("code", {}, command), copyButton(command, `the command that ${purpose.replace("its config", "writes its config")}`));
  return make("div", {}, make("p", { class: "quiet" }, `${purpose[0].toUpperCase()}${purpose.slice(1)}:`), line);
}

function showDetail(trial) {
  const panel = $("detail");
  if (!panel || !trial) return;
  const { costs, nouns } = page.run;
  const numbers = costs.map((cost) => `${formatPrice(cost, trial[cost]).replace(" ", "\u00a0")} ${nouns[cost]}`).join(", ");
  const fronts = page.run.trials.filter((other) => other.front && other.curve.length).slice(0, 40);
  const title = trial === page.run.knee ? `${trial.name}: the knee` : trial.name;
  panel.replaceChildren(
    make("h3", { tabindex: "-1" }, title),
    make("p", { class: "big" }, standing(trial)),
    ...(trial.repeats ? [make("p", { class: "again" }, againWords(trial))] : []),
    make("p", {}, numbers),
    make("p", { class: "quiet" }, trial.net.about),
    diagram(trial.net),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cost by piece" }, costTable(trial.net, costs)),
    ...(trial.curve.length > 1 ? [make("p", { class: "quiet caption" }, "Learning curve, over those of the front (faint)"), curveOf(trial, fronts)] : []),
    ...(trial.flow ? [make("p", { class: "quiet caption" }, "Gradient norm ‖∂L/∂y‖ by layer, images to classes (log scale)"), flowOf(trial)] : []),
    ...(trial.accuracy === null && trial.state !== "stopped" ? [] : commandsOf(trial).map(commandLine)),
  );
}

// A single line for screen readers, because reading the whole panel at each step would take too long.
function sayChoice(trial) {
  const announced = $("announced");
  if (announced && trial) announced.textContent = `${trial.name}: ${standing(trial)}, ${page.run.costs.map((cost) => `${formatPrice(cost, trial[cost])} ${page.run.nouns[cost]}`).join(", ")}`;
}

on("choose", (trial) => {
  showDetail(trial);
  sayChoice(trial);
});
