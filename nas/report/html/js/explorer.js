// The chart of accuracy against a cost, with selectable axes, the front as a staircase, and points that can be hovered over,
// clicked or reached by keys.

const explorer = { plot: null, cloud: null, points: [], tip: null, waiting: false };
const MANY = 2000; // points; more are drawn small
const NEAR = 18; // pixels

const option = (name) => $(`explorer-${name}`);
const settings = () => ({
  cost: option("cost").value,
  error: option("measure").value === "error",
  logX: option("log-x").checked,
  logY: option("log-y").checked,
  bars: option("bars").checked,
  others: option("others").checked,
});
const heightOf = (trial, { error }) => (error ? 1 - trial.at : trial.at);
const drawable = ({ logY }, y) => !logY || y > 0; // a log axis can't show an error of 0

// The best at each cost or less, from the cheapest to the most expensive: the front of these two axes.
function staircase(trials, cost, level = "level") {
  const sorted = [...trials].sort((a, b) => a[cost] - b[cost] || b[level] - a[level]);
  const stairs = [];
  for (const trial of sorted) if (!stairs.length || trial[level] > stairs.at(-1)[level]) stairs.push(trial);
  return { stairs, end: sorted.at(-1)?.[cost] };
}

function padded(values, log, least) {
  const scaled = log ? values.map(Math.log10) : values;
  const [low, high] = [Math.min(...scaled), Math.max(...scaled)];
  const pad = Math.max(0.07 * (high - low), least);
  return [low - pad, high + pad];
}

// Plotly labels 2 and 5 with a single digit, and below 0.3 decades all nine digits, which then overlap.
function logTicks([low, high], most) {
  for (const digits of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(low) - 1; power <= high; power += 1) {
      for (const digit of digits) ticks.push(digit * 10 ** power);
    }
    const shown = ticks.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
    if (shown.length <= most) return shown.length > 1 ? shown : null;
  }
  return null;
}

// If trials are ranked by means: the front of these two axes by the accuracies in the search, of one training each.
function searchedLine(choice) {
  const { cost, error } = choice;
  const { stairs, end } = staircase(page.run.ended, cost, "accuracy");
  const steps = stairs.map((trial) => [trial[cost], error ? 1 - trial.accuracy : trial.accuracy]).filter(([, y]) => drawable(choice, y));
  if (steps.length) steps.push([end, steps.at(-1)[1]]);
  return { type: "scatter", mode: "lines", x: steps.map(([x]) => x), y: steps.map(([, y]) => y), name: "best in the search", meta: "trial", line: { shape: "hv", color: colour("trial"), width: 1.2, dash: "dot" }, hoverinfo: "skip" };
}

// Positions of data within the axes, in pixels from the upper left corner, and the size of the plot; approximate before the first
// drawing.
function pixels({ logX, logY }, { xaxis, yaxis }) {
  const { plot } = explorer;
  const size = plot._fullLayout?._size;
  const [wide, high] = [size?.w ?? plot.clientWidth - 80, size?.h ?? plot.clientHeight - 110];
  const share = ([low, high], value, log) => ((log ? Math.log10(value) : value) - low) / (high - low);
  return { size: [wide, high], at: ([x, y]) => [wide * share(xaxis.range, x, logX), high * (1 - share(yaxis.range, y, logY))] };
}

function sidesOf(baselines, texts, shown, steps, choice, layout) {
  const { size, at } = pixels(choice, layout);
  const placeOf = (trial) => at([trial[choice.cost], heightOf(trial, choice)]);
  const others = shown.filter((trial) => !trial.label).map(placeOf);
  return labelSides(baselines.map(placeOf), texts, [...others, ...alongStairs(steps.map(at))], size);
}

function traces(choice, layout) {
  const { ended, knee, byMeans } = page.run;
  const { cost } = choice;
  const shown = ended.filter((trial) => drawable(choice, heightOf(trial, choice)));
  const scatter = (trials, role, name, marker, more = {}) => ({
    type: "scatter",
    mode: "markers",
    x: trials.map((trial) => trial[cost]),
    y: trials.map((trial) => heightOf(trial, choice)),
    name,
    meta: role,
    marker: { color: colour(role), ...marker },
    hoverinfo: "skip",
    ...(choice.bars && trials.length > 0 && role !== "knee"
      ? { error_y: { type: "data", array: trials.map(errorOf), color: colour(role), thickness: 1.2, width: 3 } }
      : {}),
    ...more,
  });
  const { stairs, end } = staircase(shown.filter((trial) => trial.ranked), cost);
  const steps = [...stairs.map((trial) => [trial[cost], heightOf(trial, choice)])];
  if (steps.length) steps.push([end, steps.at(-1)[1]]);
  const members = shown.filter((trial) => trial.front && !trial.label);
  const baselines = shown.filter((trial) => trial.label);
  const confirmed = shown.filter(isConfirmed);
  const list = [
    ...(byMeans ? [searchedLine(choice)] : []),
    { type: "scatter", mode: "lines", x: steps.map(([x]) => x), y: steps.map(([, y]) => y), name: "best at this cost", meta: "front", line: { shape: "hv", color: colour("front"), width: 1.5 }, hoverinfo: "skip" },
    ...(confirmed.length ? [scatter(confirmed, "trial", "confirmed", { symbol: "circle-open", size: 9, line: { width: 2 } })] : []),
    scatter(members, "front", "front", { symbol: "circle", size: 10 }),
  ];
  if (baselines.length) {
    const texts = baselines.map((trial) => cut(trial.label, 24));
    const sides = sidesOf(baselines, texts, shown, steps, choice, layout);
    list.push(
      scatter(baselines, "baseline", "baseline", { symbol: baselines.map((trial) => (trial.front ? "diamond" : "diamond-open")), size: 12 }, {
        mode: "markers+text",
        text: texts.map((text, k) => (sides[k] ? escaped(text) : "")),
        textposition: sides.map((side) => side || "bottom right"),
        textfont: { color: colour("baseline"), size: 13 },
        cliponaxis: false,
      }),
    );
  }
  if (knee && shown.includes(knee)) list.push(scatter([knee], "knee", "knee", { symbol: "circle-open", size: 20, line: { width: 2.5 } }));
  // Only for the legend: the points are drawn on the canvas.
  for (const [name, marker] of [["trial", { symbol: "circle-open", size: 8 }], ["cut short", { symbol: "x-thin-open", size: 8 }]]) {
    if (cloudOf(name, choice).length) list.push({ ...scatter([], "trial", name, marker), x: [null], y: [null], name, uid: `cloud-${name}` });
  }
  const ring = { symbol: "circle-open", size: 19, color: colour("ink"), line: { width: 2 } };
  list.push({ type: "scatter", mode: "markers", ...ringAt(choice), name: "chosen", marker: ring, hoverinfo: "skip", showlegend: false, cliponaxis: false });
  return list;
}

// Plotly interprets some HTML in labels, including entities.
const escaped = (text) => text.replace(/[&<>]/g, (letter) => `&#${letter.charCodeAt(0)};`);

// Trials off the front that have a mean are drawn by Plotly, with their error bars.
const isConfirmed = (trial) => page.run.byMeans && trial.ranked && !trial.front && !trial.label;

function cloudOf(name, choice) {
  if (name === "trial") return page.run.ended.filter((trial) => !trial.front && !trial.label && !isConfirmed(trial) && drawable(choice, heightOf(trial, choice)));
  if (!choice.others) return [];
  return page.run.trials.filter((trial) => trial.accuracy === null && trial.at !== null && drawable(choice, heightOf(trial, choice)));
}

function layoutOf(choice) {
  const { ended, trials, nouns, template } = page.run;
  const { cost } = choice;
  const within = ended.length ? ended : trials.filter((trial) => trial.at !== null);
  const all = [...within, ...(choice.others ? trials.filter((trial) => trial.at !== null) : [])];
  const layout = structuredClone(template);
  paintLayout(layout);
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)"; // the cloud is below
  const rangeX = padded(all.map((trial) => trial[cost]), choice.logX, choice.logX ? 0.04 : 0);
  const heights = within.map((trial) => heightOf(trial, choice)).filter((y) => drawable(choice, y));
  const errors = choice.bars ? within.flatMap((trial) => [1, -1].map((sign) => heightOf(trial, choice) + sign * errorOf(trial))).filter((y) => drawable(choice, y)) : [];
  const before = page.run.byMeans ? searchedLine(choice).y : [];
  const rangeY = padded([...heights, ...errors, ...before], choice.logY, choice.logY ? 0.03 : 0.002);
  const ticks = choice.logX ? logTicks(rangeX, narrow.matches ? 5 : 9) : null;
  Object.assign(layout.xaxis, {
    type: choice.logX ? "log" : "linear",
    range: rangeX,
    title: { text: `${nouns[cost]}${choice.logX ? " (log scale)" : ""}`, standoff: 8 },
    ...(ticks ? { tickvals: ticks, ticktext: ticks.map(shortCount) } : { tickformat: "~s" }),
  });
  const ticksY = choice.logY ? logTicks(rangeY, 9) : null;
  Object.assign(layout.yaxis, {
    type: choice.logY ? "log" : "linear",
    range: rangeY,
    title: { text: `validation ${choice.error ? "error" : "accuracy"}${choice.logY ? " (log scale)" : ""}`, standoff: 8 },
    ...(ticksY ? { tickvals: ticksY, ticktext: ticksY.map((tick) => `${Number((100 * tick).toPrecision(2))} %`) } : { tickformat: "~%" }),
  });
  layout.margin = { l: 8, r: 12, t: 12, b: 8 };
  layout.hovermode = false;
  layout.dragmode = touch ? false : "zoom";
  layout.uirevision = JSON.stringify([cost, choice.error, choice.logX, choice.logY]); // the zoom is kept as long as the axes are the same
  layout.shapes = shapes(choice);
  if (paper.on) fitPaper(layout);
  return layout;
}

// The budget as a line, if it limits the cost of this axis.
function shapes(choice) {
  if (page.budget?.cost !== choice.cost) return [];
  const { limit } = page.budget;
  const line = { color: colour("baseline"), width: 1.5, dash: "dash" };
  return [{ type: "line", x0: limit, x1: limit, yref: "paper", y0: 0, y1: 1, line, layer: "below" }];
}

// The position of the ring around the chosen trial, which is the last trace.
function ringAt(choice) {
  const trial = page.chosen;
  const there = trial && trial.at !== null && drawable(choice, heightOf(trial, choice));
  return { x: [there ? trial[choice.cost] : null], y: [there ? heightOf(trial, choice) : null] };
}

async function drawExplorer() {
  const { plot } = explorer;
  if (!plot) return;
  const choice = settings();
  option("others").closest("label").hidden = !page.run.trials.some((trial) => trial.accuracy === null && trial.at !== null);
  option("log-y").disabled = !choice.error; // a log axis is only useful for errors
  if (!choice.error) option("log-y").checked = choice.logY = false;
  const layout = layoutOf(choice);
  keepZoom(plot, layout, layout.uirevision);
  const settled = plot._fullLayout?._size;
  const drawNow = () => Plotly.react(plot, traces(choice, layout), layout, { ...config, modeBarButtons: [[picture, "zoom2d", "pan2d", "resetScale2d"]] });
  await drawNow();
  const size = plot._fullLayout._size;
  if (page.run.ended.some((trial) => trial.label) && (size.w !== settled?.w || size.h !== settled?.h)) await drawNow(); // place the labels by the actual size
  explorer.cloud ??= new Cloud(plot);
  const radius = page.run.ended.length > MANY ? 2.5 : 4;
  const hidden = (name) => () => (plot._fullData ?? []).some((trace) => trace.name === name && trace.visible !== true);
  const group = (name, symbol, alpha) => ({
    points: cloudOf(name, choice).map((trial) => ({ x: trial[choice.cost], y: heightOf(trial, choice), trial })),
    symbol,
    radius,
    colour: colour("trial"),
    alpha,
    hidden: hidden(name),
  });
  explorer.cloud.groups = [group("cut short", "cross", 0.45), group("trial", "circle", radius < 3 ? 0.7 : 0.9)];
  explorer.points = page.run.trials
    .filter((trial) => trial.at !== null && (choice.others || trial.accuracy !== null) && drawable(choice, heightOf(trial, choice)))
    .map((trial) => ({ trial, x: trial[choice.cost], y: heightOf(trial, choice) }));
  explorer.cloud.draw();
  nameExplorer(choice);
}

function nameExplorer({ cost }) {
  const { ended, nouns } = page.run;
  const { plot } = explorer;
  for (const layer of plot.querySelectorAll(".main-svg")) layer.setAttribute("aria-hidden", "true");
  plot.setAttribute("aria-label", `Chart of validation accuracy against ${nouns[cost]} of ${ended.length} complete trials. Arrow keys step through them by cost; the tables below hold the same numbers.`);
}

// An image of the chart with the points of the canvas.
const picture = {
  name: "picture",
  title: "Download plot as a PNG",
  icon: Plotly.Icons.camera,
  click: (plot) => {
    const image = { source: explorer.cloud.canvas.toDataURL(), xref: "paper", yref: "paper", layer: "below", sizing: "stretch" };
    const { l, t, w, h } = plot._fullLayout._size;
    const { clientWidth: width, clientHeight: height } = plot;
    Object.assign(image, { x: -l / w, y: 1 + t / h, sizex: width / w, sizey: height / h });
    const layout = { ...plot.layout, images: [image], width, height, paper_bgcolor: colour("page") };
    return Plotly.downloadImage({ data: plot.data, layout }, { format: "png", width, height, scale: 2, filename: "front" });
  },
};

// -- pointing, clicking, stepping -------------------------------------------------------------------------------------------

function nearest(event) {
  const { plot, cloud, points } = explorer;
  const { left, top } = plot.getBoundingClientRect();
  const frame = cloud.frame();
  const [x, y] = [event.clientX - left, event.clientY - top];
  const { box } = frame;
  if (x < box.l - 9 || x > box.l + box.w + 9 || y < box.t - 9 || y > box.t + box.h + 9) return null;
  let found = null;
  let closest = NEAR * (touch ? 1.5 : 1);
  for (const point of points) {
    const [px, py] = cloud.at(frame, point.x, point.y);
    // Of overlapping points, choose the one on top.
    const distance = Math.hypot(px - x, py - y) - (point.trial.front || point.trial.label ? 4 : 0);
    if (distance < closest) [closest, found] = [distance, { ...point, left: px, top: py }];
  }
  return found;
}

function showTip(point) {
  const { tip, plot } = explorer;
  tip.hidden = !point;
  plot.style.cursor = point ? "pointer" : "";
  if (!point) return;
  const { trial } = point;
  const { costs, nouns } = page.run;
  tip.replaceChildren(
    make("strong", {}, trial.label ? `${trial.name} (baseline)` : trial.name),
    make("span", {}, standing(trial)),
    make("span", {}, costs.slice(0, 2).map((cost) => `${formatPrice(cost, trial[cost])} ${nouns[cost]}`).join(", ")),
    make("span", {}, trial.net.about),
  );
  const { width, height } = tip.getBoundingClientRect();
  const room = plot.clientWidth;
  const side = point.left + 16 + width > room && point.left > width ? point.left - 16 - width : point.left + 16;
  tip.style.left = `${Math.max(0, Math.min(side, room - width))}px`;
  tip.style.top = `${Math.max(0, Math.min(point.top - height / 2, plot.clientHeight - height))}px`;
}

function step(key) {
  const { cost } = settings();
  const order = [...page.run.ended].sort((a, b) => a[cost] - b[cost] || a.level - b.level);
  const here = order.indexOf(page.chosen);
  const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, Home: 0, End: order.length - 1 }[key];
  if (to === undefined) return false;
  if (order[to]) choose(order[to]);
  return true;
}

function startExplorer() {
  const plot = $("explorer");
  if (!plot || explorer.plot) return;
  explorer.plot = plot;
  explorer.tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  plot.after(explorer.tip);
  for (const name of ["cost", "measure", "log-x", "log-y", "bars", "others"]) option(name).addEventListener("change", drawExplorer);
  plot.addEventListener("pointermove", (event) => showTip(event.buttons || !explorer.cloud ? null : nearest(event)));
  plot.addEventListener("pointerleave", () => showTip(null));
  // Plotly captures the mouse while a button is down; releasing it at the same place is a click.
  let down = null;
  plot.addEventListener("pointerdown", (event) => (down = event), true);
  addEventListener("pointerup", (event) => {
    if (!down || Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 4 || down.target.closest(".modebar, .legend")) {
      down = null;
      return;
    }
    down = null;
    const point = nearest(event);
    if (point) choose(point.trial);
  }, true);
  plot.addEventListener("keydown", (event) => {
    if (event.target !== plot) return;
    if (step(event.key)) event.preventDefault();
    else if (event.key === "Enter") $("detail").querySelector("h3")?.focus();
  });
  plot.addEventListener("focusout", () => showTip(null));
}

// Draw the ring and the budget's line at most once per frame: the slider moves both, possibly faster than they can be drawn.
function mark() {
  if (!explorer.cloud || explorer.waiting) return;
  explorer.waiting = true;
  requestAnimationFrame(() => {
    explorer.waiting = false;
    const choice = settings();
    const { x, y } = ringAt(choice);
    Plotly.update(explorer.plot, { x: [x], y: [y] }, { shapes: shapes(choice) }, [explorer.plot.data.length - 1]);
  });
}
on("choose", mark);
on("budget", mark);
on("data", drawExplorer);
on("scheme", drawExplorer);
