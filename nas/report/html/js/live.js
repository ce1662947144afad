// Updates of a page from its server while the run changes: changed parts are replaced, the state of the page (zoom, chosen trial,
// filter, opened details) is kept.

const POLL = 2000; // milliseconds
const known = new Map(); // id of a section -> its HTML from the server
const KEPT = new Set(["against-cost", "trials"]); // sections that scripts fill and update

function remember(main) {
  for (const part of main.children) known.set(part.id || part.tagName, part.outerHTML);
}

// Replace a section by a new one, but keep charts that are already drawn.
function swap(old, fresh) {
  for (const place of fresh.querySelectorAll(".chart")) {
    const existing = $(place.id);
    if (existing && drawn.has(place.id)) place.replaceWith(existing);
  }
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  [...fresh.querySelectorAll("details")].forEach((details, k) => (details.open = open[k] ?? false));
  old.replaceWith(fresh);
}

function apply({ main: text, figures: list, run }) {
  const main = document.querySelector("main");
  const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
  let before = null;
  let busy = false;
  for (const part of [...fresh.children]) {
    const name = part.id || part.tagName;
    const html = part.outerHTML;
    const old = part.id ? main.querySelector(`:scope > #${CSS.escape(part.id)}`) : main.querySelector(`:scope > ${part.tagName}`);
    if (!old) before ? before.after(part) : main.prepend(part);
    else if (KEPT.has(name) || known.get(name) === html) before = old;
    else if (old.contains(document.activeElement)) {
      busy = true; // the reader is using it: try again later
      before = old;
      continue;
    } else swap(old, part);
    if (part.isConnected) before = part;
    known.set(name, html);
  }
  const budgets = fresh.querySelector(".budget .scroll");
  if (budgets) main.querySelector(".budget .scroll")?.replaceWith(budgets);
  const caption = fresh.querySelector("#against-cost figcaption");
  if (caption) main.querySelector("#against-cost figcaption")?.replaceWith(caption);
  const byMeans = page.run?.byMeans;
  setRun(run);
  if (run?.byMeans && !byMeans && $("explorer-bars")) option("bars").checked = true; // the default of a newly opened page
  startRun();
  tell("data");
  showFigures(list);
  return busy;
}

// The values of a trial on which the panel's text depends.
const aboutOf = (trial, run) => JSON.stringify([trial.state, trial.epochs, trial.front, trial.level, trial.repeats, trial === run.knee]);

function setRun(data) {
  const chosen = page.chosen?.number;
  const before = page.chosen && aboutOf(page.chosen, page.run);
  page.run = data && unpack(data);
  // The panel is rebuilt only if its trial has changed, so that its text does not move while it is being read.
  const now = page.run?.trials.find((trial) => trial.number === chosen) ?? null;
  const same = now && page.chosen && aboutOf(now, page.run) === before;
  page.chosen = now;
  if (now && !same) showDetail(now);
}

let waiting = null; // an update that could not be applied yet

async function poll() {
  const note = $("live");
  try {
    const reply = await fetch("live.json", { headers: { "If-None-Match": `"${page.version}"` }, cache: "no-store" });
    if (reply.ok) {
      const news = await reply.json();
      waiting = apply(news) ? news : null;
      page.version = reply.headers.get("ETag").replaceAll('"', "");
    } else if (waiting && !apply(waiting)) waiting = null;
    note.textContent = reply.ok || reply.status === 304 ? "Live: this page follows the run." : `The server can't read the run (${reply.status}).`;
    document.body.dataset.version = page.version;
  } catch {
    note.textContent = "`nas watch` has ended: this page no longer follows the run.";
  }
  setTimeout(poll, POLL);
}

function startLive() {
  if (!page.version) return;
  document.querySelector("main").before(make("p", { id: "live", role: "status" }, "Live: this page follows the run."));
  remember(document.querySelector("main"));
  setTimeout(poll, POLL);
}
