// "Which network should I take for 2 M parameters?": the most accurate one within a budget, picked by a slider or a number.

const STEPS = 1000;

function budgetRange(cost) {
  const values = page.run.complete.map((trial) => trial[cost]);
  return [Math.min(...values), Math.max(...values)];
}

// Budgets are rounded to three digits; the ends of the slider are the smallest and largest cost of the trials.
function budgetAt(position, cost) {
  const [low, high] = budgetRange(cost);
  if (position >= STEPS) return high;
  const exact = low * (high / low) ** (position / STEPS);
  const whole = cost === "latency_ms" ? -9 : 0;
  const unit = 10 ** Math.max(Math.floor(Math.log10(exact)) - 2, whole);
  return Math.min(Math.max(Math.round(exact / unit) * unit, low), high);
}

function setBudget(limit, cost, { fromSlider = false, quiet = false } = {}) {
  const [low, high] = budgetRange(cost);
  const slider = $("budget");
  if (!fromSlider) slider.value = high > low ? (STEPS * Math.log(Math.max(limit, Math.min(low, 1)) / low)) / Math.log(high / low) : STEPS;
  if (document.activeElement !== $("budget-number")) $("budget-number").value = shortPrice(cost, limit).replace("\u00a0ms", "");
  const fitting = page.run.complete.filter((trial) => trial[cost] <= limit);
  const pick = fitting.length ? best(fitting) : null;
  const words = $("budget-pick");
  const noun = page.run.nouns[cost];
  const within = `With at most ${shortPrice(cost, limit)} ${noun}`;
  slider.setAttribute("aria-valuetext", `at most ${formatPrice(cost, limit)} ${noun}`);
  if (!pick) words.textContent = `${within}: none of the complete trials is as small; the smallest has ${formatPrice(cost, low)}.`;
  else {
    const dearer = page.run.complete.filter((trial) => trial.level > pick.level);
    const next = dearer.length ? dearer.reduce((a, b) => (b[cost] < a[cost] ? b : a)) : null;
    const more = next ? ` The next better one, ${next.name} (${formatPercent(next.level)} %), takes ${formatPrice(cost, next[cost])}.` : " None is better at any cost.";
    words.replaceChildren(`${within}, take `, make("strong", {}, pick.name), `: ${measured(pick)}, ${formatPrice(cost, pick[cost])} ${noun}.${more}`);
  }
  page.budget = { cost, limit, pick };
  tell("budget", page.budget);
  if (pick && pick !== page.chosen && !quiet) choose(pick);
}

function startBudget() {
  const slider = $("budget");
  if (!slider || slider.dataset.started || !page.run.complete.length) return;
  slider.dataset.started = "yes";
  slider.closest(".budget").hidden = false;
  const cost = () => $("budget-cost").value;
  slider.addEventListener("input", () => setBudget(budgetAt(Number(slider.value), cost()), cost(), { fromSlider: true }));
  $("budget-cost").addEventListener("change", () => setBudget(budgetRange(cost())[1], cost()));
  const typed = () => {
    const limit = parseCount($("budget-number").value);
    $("budget-number").setAttribute("aria-invalid", String(!(limit > 0)));
    if (limit > 0) setBudget(limit, cost());
  };
  $("budget-number").addEventListener("change", typed);
  $("budget-number").value = shortPrice(cost(), budgetRange(cost())[1]).replace("\u00a0ms", "");
}

// The run has changed: update the text for the same budget.
on("data", () => {
  if (page.budget && $("budget")) setBudget(page.budget.limit, page.budget.cost, { quiet: true });
});
