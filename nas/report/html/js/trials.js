// The table of all trials, which can be sorted, filtered, copied and saved. Only visible rows are elements, so that 10,000 rows are
// as fast as 10.

const table = { rows: [], sort: "name", descending: false, top: 0, row: 0 };
const ROW = 36; // pixels, as in the style sheet

const KEYS = {
  name: (trial) => trial.number,
  state: (trial) => trial.state,
  accuracy: (trial) => trial.accuracy ?? -1,
  mean: (trial) => trial.estimate?.mean ?? -1,
  epochs: (trial) => trial.epochs,
  seconds: (trial) => trial.seconds,
  about: (trial) => trial.net.about,
};
const keyOf = (name) => KEYS[name] ?? ((trial) => trial[name]);

function columnsOf() {
  const { costs, nouns, repeats } = page.run;
  const again = Object.keys(repeats).length ? [["mean", "Mean ± s.e. (seeds), %", (trial) => (trial.estimate ? overSeeds(trial.estimate).replace(" %", "").replace(" seeds", "") : "–")]] : [];
  return [
    ["name", "Trial", (trial) => trial.label || String(trial.number)],
    ["state", "State", (trial) => trial.state],
    ["accuracy", "Accuracy, %", (trial) => (trial.accuracy === null ? "–" : formatPercent(trial.accuracy))],
    ...again,
    ...costs.map((cost) => [cost, nouns[cost][0].toUpperCase() + nouns[cost].slice(1), (trial) => formatPrice(cost, trial[cost])]),
    ["epochs", "Epochs", (trial) => String(trial.epochs)],
    ["seconds", "Time", (trial) => formatSeconds(trial.seconds)],
    ["about", "Network", (trial) => trial.net.about],
  ];
}
const isNumber = (name) => !["name", "state", "about"].includes(name);

function filterTrials() {
  const words = $("trials-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = $("trials-state").value;
  const front = $("trials-front").checked;
  const fits = (trial) => {
    if ((state && trial.state !== state) || (front && !trial.front)) return false;
    const text = `${trial.name} ${trial.state} ${trial.net.about} ${trial.reason} ${trial.net.digest}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const key = keyOf(table.sort);
  const sign = table.descending ? -1 : 1;
  const order = (a, b) => {
    const [left, right] = [key(a), key(b)];
    return sign * (left < right ? -1 : left > right ? 1 : 0) || a.index - b.index;
  };
  table.rows = page.run.trials.filter(fits).sort(order);
  table.row = Math.min(table.row, Math.max(table.rows.length - 1, 0));
  $("trials-count").textContent = `${table.rows.length.toLocaleString("en")} of ${page.run.trials.length.toLocaleString("en")} trials`;
  drawRows(true);
}

function drawRows(anew = false) {
  const scroll = $("trials-scroll");
  const body = $("trials-body");
  const height = scroll.clientHeight || 480;
  const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - 10);
  const last = Math.min(table.rows.length, first + Math.ceil(height / ROW) + 20);
  if (!anew && first === table.first && last === table.last) return;
  [table.first, table.last] = [first, last];
  const columns = columnsOf();
  const focused = body.contains(document.activeElement);
  const gap = (rows) => make("tr", { "aria-hidden": "true", class: "gap" }, make("td", { colspan: columns.length, style: `height: ${rows * ROW}px` }));
  const made = table.rows.slice(first, last).map((trial, k) => rowOf(trial, first + k, columns));
  body.replaceChildren(gap(first), ...made, gap(table.rows.length - last));
  if (!table.rows.length) body.replaceChildren(make("tr", {}, make("td", { colspan: columns.length }, "No trial fits.")));
  $("trials-table").setAttribute("aria-rowcount", table.rows.length + 1);
  if (focused) body.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
}

function rowOf(trial, place, columns) {
  const classes = [trial.front && "on-front", trial === page.chosen && "chosen"].filter(Boolean).join(" ");
  const cells = columns.map(([name, , text], column) => {
    const content = text(trial);
    const more = name === "about" || name === "name" ? { title: trial.reason ? `${content}\n${trial.reason}` : content } : {};
    return make(column ? "td" : "th", { ...(column ? {} : { scope: "row" }), class: isNumber(name) ? "number" : null, ...more }, content);
  });
  return make("tr", { class: classes || null, tabindex: place === table.row ? "0" : "-1", "aria-rowindex": place + 2, "aria-selected": String(trial === page.chosen), "data-place": place }, ...cells);
}

function toRow(place) {
  if (!table.rows.length) return;
  table.row = Math.max(0, Math.min(place, table.rows.length - 1));
  const scroll = $("trials-scroll");
  const [top, head] = [table.row * ROW, $("trials-table").tHead.offsetHeight];
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + ROW + head > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + ROW + head - scroll.clientHeight;
  drawRows(true);
  $("trials-body").querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
}

function sortBy(name) {
  table.descending = table.sort === name ? !table.descending : name === "accuracy" || name === "mean";
  table.sort = name;
  $("trials-scroll").scrollTop = 0;
  drawHead();
  filterTrials();
  document.querySelector(`#trials-table [data-sort="${name}"]`).focus();
}

function drawHead() {
  const cells = columnsOf().map(([name, title]) => {
    const sorted = table.sort === name;
    const arrow = sorted ? (table.descending ? " ▼" : " ▲") : "";
    const button = make("button", { type: "button", "data-sort": name, click: () => sortBy(name) }, title, make("span", { "aria-hidden": "true" }, arrow));
    return make("th", { scope: "col", "data-column": name, class: isNumber(name) ? "number" : null, "aria-sort": sorted ? (table.descending ? "descending" : "ascending") : "none" }, button);
  });
  $("trials-table").tHead.replaceChildren(make("tr", { "aria-rowindex": "1" }, ...cells));
}

// The shown trials in their order with exact numbers, for scripts and spreadsheets.
function exported(separator) {
  const { costs } = page.run;
  const head = ["number", "label", "state", "front", "accuracy", "accuracy_mean", "accuracy_std_error", "accuracy_seeds", ...costs, "epochs", "seconds", "digest", "network", "reason"];
  const line = (trial) => [trial.number, trial.label, trial.state, trial.front, trial.accuracy ?? "", trial.estimate?.mean ?? "", trial.estimate?.error ?? "", trial.estimate?.n ?? 0, ...costs.map((cost) => trial[cost]), trial.epochs, trial.seconds, trial.net.digest, trial.net.about, trial.reason];
  const cell = (value) => {
    // Texts that a spreadsheet would interpret as formulas get an apostrophe, as in nas/utils/text.py; numbers are not changed.
    const text = typeof value === "string" && /^[=+\-@\t\n\r]/.test(value) ? `'${value}` : String(value ?? "");
    if (separator === "\t") return text.replace(/\s+/g, " ");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...table.rows.map(line)].map((row) => row.map(cell).join(separator)).join("\n") + "\n";
}

function startTrials() {
  if (!$("trials-table") || $("trials-csv")) return;
  for (const [id, event] of [["trials-text", "input"], ["trials-state", "change"], ["trials-front", "change"]]) {
    $(id).addEventListener(event, () => {
      $("trials-scroll").scrollTop = 0;
      filterTrials();
    });
  }
  $("trials-scroll").addEventListener("scroll", () => drawRows());
  const body = $("trials-body");
  const chosen = (row) => {
    const trial = table.rows[Number(row?.dataset.place)];
    if (trial) choose(trial);
    return trial;
  };
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-place]");
    if (!row || String(getSelection())) return; // selecting text does not choose a trial
    table.row = Number(row.dataset.place);
    chosen(row);
  });
  body.addEventListener("keydown", (event) => {
    const jump = Math.floor($("trials-scroll").clientHeight / ROW) - 1;
    const to = { ArrowDown: table.row + 1, ArrowUp: table.row - 1, PageDown: table.row + jump, PageUp: table.row - jump, Home: 0, End: table.rows.length - 1 }[event.key];
    if (to !== undefined) toRow(to);
    else if (event.key === "Enter" || event.key === " ") {
      if (chosen(event.target.closest("tr[data-place]"))) $("detail")?.querySelector("h3")?.focus();
    } else return;
    event.preventDefault();
  });
  $("trials-tools").append(
    copyButton(() => exported("\t"), "the table"),
    make("button", { type: "button", id: "trials-csv", click: () => save(exported(","), "trials.csv", "text/csv") }, "CSV"),
  );
  drawHead();
  filterTrials();
}

on("choose", () => $("trials-table") && drawRows(true));
on("data", () => $("trials-table") && filterTrials());
