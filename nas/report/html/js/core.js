// Shared by the other files: the run, the chosen trial, formats of numbers (identical to nas/utils/text.py), elements.

const page = { run: null, chosen: null, budget: null, version: document.body.dataset.live ?? "" };
const root = document.documentElement;
const narrow = matchMedia("(max-width: 40rem)");
const touch = matchMedia("(pointer: coarse)").matches;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const $ = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

// Listeners of the events "choose" (another trial), "data" (the run has changed), "budget" and "scheme".
const listeners = {};
const on = (event, listener) => (listeners[event] ??= []).push(listener);
const tell = (event, ...about) => (listeners[event] ?? []).forEach((listener) => listener(...about));

function choose(trial) {
  page.chosen = trial;
  tell("choose", trial);
}

// -- the run ------------------------------------------------------------------------------------------------------------

// Columns become one object for each trial. `estimate`: mean over further seeds, if any. `level`: the accuracy by which it is
// ranked. `at`: the accuracy to draw, which is `level` or the accuracy of the last epoch. `ended`: trials with an accuracy;
// `complete`: those of them that are ranked.
function unpack(data) {
  const { columns, labels, states, reasons } = data;
  const nets = data.nets.map(unpackNet);
  const front = new Set(data.front);
  const trials = columns.number.map((number, index) => {
    const curve = columns.curve[index];
    const accuracy = columns.accuracy[index];
    const repeats = data.repeats[index] ?? null;
    const estimate = repeats?.mean === undefined ? null : { ...repeats, n: repeats.accuracies.length };
    const level = data.byMeans && estimate ? estimate.mean : accuracy;
    const trial = {
      index,
      number,
      label: labels[index] ?? "",
      state: states[columns.state[index]],
      accuracy,
      repeats,
      estimate,
      level,
      ranked: accuracy !== null && (!data.byMeans || estimate !== null),
      at: level ?? (curve.length ? curve[curve.length - 1][1] : null),
      curve,
      epochs: columns.epochs[index],
      seconds: columns.seconds[index],
      reason: reasons[columns.reason[index]],
      net: nets[columns.net[index]],
      front: front.has(index),
      flow: data.flows?.[index] ?? null,
    };
    for (const cost of data.costs) trial[cost] = columns[cost][index];
    trial.name = trial.label || `trial ${number}`;
    return trial;
  });
  return { ...data, trials, ended: trials.filter((trial) => trial.accuracy !== null), complete: trials.filter((trial) => trial.ranked), knee: trials[data.knee] ?? null };
}

function unpackNet({ digest, about, images: [resolution, channels, classes], pieces }) {
  const named = pieces.map(([depth, width, side, block, shortcut, params, macs, activations], place) => {
    const name = place === 0 ? "stem" : place === pieces.length - 1 ? "head" : `stage ${place}`;
    const texts = [name, block, shortcut].filter(Boolean).join(", ");
    return { name, depth, width, side, block, shortcut, about: texts, params, macs, activations };
  });
  return { digest, about, resolution, channels, classes, pieces: named };
}

const standardError = (share) => Math.sqrt((share * (1 - share)) / page.run.images);
const errorOf = (trial) => (page.run.byMeans ? (trial.estimate?.error ?? 0) : standardError(trial.at)); // length of the error bars
const best = (trials) => trials.reduce((a, b) => (b.level > a.level || (b.level === a.level && b.macs < a.macs) ? b : a));

// -- numbers in words -----------------------------------------------------------------------------------------------------

// Round half to even, as in Python: only multiples of 1/8 are exact in binary and can lie in the middle of two decimals.
function formatPercent(share) {
  const value = 100 * share;
  if ((value * 8) % 2 !== 1) return value.toFixed(2);
  const below = Math.floor(value * 100);
  return ((below + (below % 2)) / 100).toFixed(2);
}

function formatCount(n) {
  n = Math.round(n);
  if (n < 1000) return String(n);
  let digits = String(n).length;
  const unit = 10 ** (digits - 4);
  let figure = Math.floor(n / unit);
  const rest = n - figure * unit;
  if (digits > 4 && (rest * 2 > unit || (rest * 2 === unit && figure % 2))) figure += 1;
  if (figure === 10000) {
    figure = 1000;
    digits += 1;
  }
  const group = Math.min(Math.floor((digits - 1) / 3), 4);
  const shift = digits - 1 - 3 * group;
  return `${(figure * 10 ** (shift - 3)).toFixed(Math.max(3 - shift, 0))} ${["", "k", "M", "G", "T"][group]}`;
}

// A cost by its name: a count, or milliseconds with three digits; a dash if it was not measured. Round counts have no zeros at the
// end: "50 k".
const formatMs = (n) => (n >= 99.95 ? Math.round(n).toLocaleString("en-US") : n.toPrecision(3));
const formatPrice = (cost, n) => (n == null ? "–" : cost === "latency_ms" ? `${formatMs(n)} ms` : formatCount(n));
const shortPrice = (cost, n) => (cost === "latency_ms" ? `${Number(n.toPrecision(3))}\u00a0ms` : shortCount(n));

const shortCount = (n) => formatCount(n).replace(/\.?0+(?= )/, "").replace(" ", "\u00a0");

// Parse a count such as "2000000", "2e6", "2M" or "500 k"; NaN for other texts.
function parseCount(text) {
  const [, figure, prefix] = /^\s*([\d.,_]+(?:e\d+)?)\s*([kmgt]?)\s*$/i.exec(text) ?? [];
  const power = " kmgt".indexOf((prefix || " ").toLowerCase());
  return figure ? Number(figure.replace(/[,_]/g, "")) * 1000 ** power : NaN;
}

const overSeeds = ({ mean, error, n }) => `${formatPercent(mean)} ± ${formatPercent(error)} % (${n} seeds)`;

function measured(trial) {
  if (page.run.byMeans) return trial.estimate ? overSeeds(trial.estimate) : `${formatPercent(trial.accuracy)} % (one training)`;
  return `${formatPercent(trial.accuracy)} ± ${formatPercent(standardError(trial.accuracy))} %`;
}

function formatSeconds(seconds) {
  const whole = Math.round(seconds);
  for (const [size, unit, smaller, rest] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole < size) continue;
    const more = Math.floor((whole % size) / smaller);
    return more ? `${Math.floor(whole / size)} ${unit} ${more} ${rest}` : `${Math.floor(whole / size)} ${unit}`;
  }
  return seconds > 0 && seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`;
}

// -- elements -------------------------------------------------------------------------------------------------------------

// Texts become text nodes, so that they are never interpreted as HTML.
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// A button that copies a text and confirms it.
function copyButton(text, what) {
  const button = make("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(typeof text === "function" ? text() : text)) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { readonly: true, style: "position: fixed; opacity: 0" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy"); // for browsers that forbid the clipboard for pages from files
    area.remove();
    return done;
  }
}

function save(text, name, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Quote for a shell, like Python's shlex.quote.
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
