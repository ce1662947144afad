// The figures from Python: drawn when they become visible, the others when the browser is idle, and repainted when the color
// scheme changes. Each trace has its role in `meta`; all colors are the page's CSS variables.

const figures = new Map(); // id -> figure
const drawn = new Set(); // ids
const config = {
  responsive: true,
  displaylogo: false,
  displayModeBar: touch ? false : "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // one of Plotly's default buttons uploads the chart
  plotlyServerURL: "",
  doubleClick: "reset+autosize",
  showTips: false,
  typesetMath: false, // $x$ in a name is not a formula
};

// Labels of a narrow log axis: powers of 10, or also 2 and 5, or Plotly's choice if the costs are nearly equal.
function steps(range) {
  if (!range) return null;
  const decades = range[1] - range[0];
  return decades > 1.3 ? 1 : decades > 0.7 ? "D2" : null;
}

const ownTicks = new WeakMap(); // axis -> the steps that the figure asks for

const axesOf = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)).map((key) => layout[key]);

function paint({ data, layout }) {
  for (const trace of data) {
    if (!trace.meta) continue;
    for (const part of ["marker", "line", "textfont", "error_y"]) {
      if (trace[part]) trace[part].color = colour(trace.meta);
    }
  }
  paintLayout(layout.template.layout);
  for (const slider of layout.sliders ?? []) {
    slider.bgcolor = colour("raised");
    slider.activebgcolor = colour("link");
    slider.bordercolor = slider.tickcolor = colour("muted");
  }
  for (const axis of axesOf(layout)) {
    if (axis.type !== "log" || axis.tickvals !== undefined) continue;
    if (!ownTicks.has(axis)) ownTicks.set(axis, axis.dtick ?? null);
    axis.dtick = (narrow.matches && steps(axis.range)) || ownTicks.get(axis);
  }
  layout.dragmode = touch ? false : "zoom"; // touching a chart scrolls the page
}

function paintLayout(look) {
  look.paper_bgcolor = look.plot_bgcolor = colour("page");
  look.font.color = look.hoverlabel.font.color = look.modebar.activecolor = colour("ink");
  look.hoverlabel.bgcolor = colour("raised");
  look.hoverlabel.bordercolor = look.modebar.color = colour("muted");
  for (const axis of [look.xaxis, look.yaxis]) axis.gridcolor = axis.linecolor = colour("rule");
  look.font.size = narrow.matches ? 12 : 13;
}

// For screen readers, the drawing is the image and its buttons are next to it. The layers above the first have no content.
function nameDrawing(place, figure) {
  figure.label ??= place.getAttribute("aria-label");
  for (const attribute of ["role", "aria-label"]) place.removeAttribute(attribute);
  const [image, ...layers] = place.querySelectorAll(".main-svg");
  image.setAttribute("role", "img");
  image.setAttribute("aria-label", figure.label);
  for (const layer of layers) layer.setAttribute("aria-hidden", "true");
}

// Zoomed ranges are kept when the data change. (Plotly's `uirevision` resets them if the figure's ranges change, which new data
// cause.)
const ranges = new Map(); // element -> [key of what the axes show, {axis: zoomed range}]

function keepZoom(place, layout, about) {
  const [known, before] = ranges.get(place) ?? [];
  const set = {};
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    set[axis] = layout[axis].range && [...layout[axis].range];
    const now = place.layout?.[axis]?.range;
    if (known === about && before[axis] && now && now.some((end, k) => end !== before[axis][k])) layout[axis].range = [...now];
  }
  ranges.set(place, [about, set]);
}

// A title that is wider than its chart is wrapped.
const LINE = { letter: 6.2, height: 16, above: 32 }; // pixels at font size 12; above: space above a plot for one line

function wrapTitle(layout, width) {
  const most = Math.floor(width / LINE.letter);
  const lines = [""];
  for (const word of (layout.title?.text ?? "").split(" ")) {
    const line = `${lines.at(-1)} ${word}`.trim();
    if (line.length <= most || !lines.at(-1)) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  if (lines.length < 2) return;
  layout.title.text = lines.join("<br>");
  layout.margin = { ...layout.margin, t: LINE.above + LINE.height * (lines.length - 1) };
}

async function drawFigure(id) {
  const figure = figures.get(id);
  const place = $(id);
  if (!figure || !place) return;
  drawn.add(id);
  paint(figure);
  const layout = structuredClone(figure.layout);
  if (paper.on) fitPaper(layout);
  wrapTitle(layout, layout.width ?? place.clientWidth);
  layout.uirevision = "kept"; // hidden traces stay hidden
  keepZoom(place, layout, id);
  await Plotly.react(place, figure.data, layout, config);
  nameDrawing(place, figure);
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !drawn.has(target.id)) drawFigure(target.id);
    }
  },
  { rootMargin: "300px" },
);
const whenIdle = window.requestIdleCallback ?? ((task) => setTimeout(task, 50));

function drawRest() {
  const next = [...figures.keys()].find((id) => !drawn.has(id) && $(id));
  if (next) whenIdle(() => drawFigure(next).then(drawRest));
}

function showFigures(list) {
  for (const { id, ...figure } of list) {
    const known = figures.get(id);
    figures.set(id, { ...figure, label: known?.label });
    if (drawn.has(id)) drawFigure(id);
    else if ($(id)) seen.observe($(id));
  }
  drawRest();
}

on("scheme", () => drawn.forEach(drawFigure));

// For printing, all charts are drawn in light colors at the width of a sheet. The browser does not wait for promises, but Plotly
// draws before it returns one.
const PAPER = { width: 680, height: 340 }; // CSS pixels; A4 has 700 between its margins
const paper = { on: false, scheme: undefined };

function fitPaper(layout) {
  layout.width = PAPER.width;
  layout.height ??= PAPER.height;
}

function print(on) {
  if (on === paper.on) return;
  paper.on = on;
  if (on) {
    paper.scheme = root.dataset.scheme;
    root.dataset.scheme = "light";
    figures.forEach((_, id) => drawn.add(id));
  } else if (paper.scheme) root.dataset.scheme = paper.scheme;
  else delete root.dataset.scheme;
  tell("scheme");
  if (!on) document.querySelectorAll(".js-plotly-plot").forEach((place) => Plotly.Plots.resize(place));
}
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
