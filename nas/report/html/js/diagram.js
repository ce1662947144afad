// A diagram of a network, a table of its costs by piece with bars, and a learning curve: small inline SVG in the page's colors.

const PIECE = { params: "Parameters", macs: "MACs", activations: "Activations" };
const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

// From the images down to the classes: a box for each piece, with a width of log2 of its channels; a cell for each block; the
// shortcut as an arc.
function diagram(net) {
  const { pieces, resolution, channels, classes } = net;
  const widest = Math.max(...pieces.map((piece) => Math.log2(piece.width + 1)));
  const shapes = [];
  const left = 26;
  const room = 188; // width of the widest box
  let y = 18;
  const write = (x, at, text, more = {}) => shapes.push(draw("text", { x, y: at, ...more }, text));
  const arrow = (to) => shapes.push(draw("path", { class: "flow", d: `M${left + 40} ${to - 12}v9` }), draw("path", { class: "head", d: `M${left + 36} ${to - 5}h8l-4 5z` }));
  write(left, y - 4, `image ${resolution} × ${resolution} × ${channels}`, { class: "faint" });
  y += 10;
  pieces.forEach((piece, place) => {
    const stage = place > 0 && place < pieces.length - 1;
    const cells = Math.min(piece.depth, 12);
    const height = stage ? Math.max(38, 8 * cells + 8) : 24;
    // A stage is wide enough for the shorter names of blocks.
    const width = Math.max(stage ? 124 : 96, (room * Math.log2(piece.width + 1)) / widest);
    arrow(y);
    shapes.push(draw("rect", { class: stage ? "stage" : "end", x: left, y, width, height, rx: 4 }, draw("title", {}, piece.about)));
    if (stage) {
      const each = (height - 6) / cells;
      for (let cell = 0; cell < cells; cell += 1) {
        shapes.push(draw("rect", { class: "block", x: left + 4, y: y + 3 + cell * each, width: 12, height: each - 1.5, rx: 1.5 }));
      }
      write(left + 22, y + 16, `${piece.depth} × ${piece.width}`, { class: "strong" });
      write(left + 22, y + 30, cut(piece.block, Math.floor((width + 62) / 6.4)));
      if (piece.shortcut !== "no shortcut") {
        const dash = piece.shortcut.startsWith("identity") ? null : "3 2";
        shapes.push(
          draw("path", { class: "around", "stroke-dasharray": dash, d: `M${left} ${y + 4}C4 ${y + 4} 4 ${y + height - 4} ${left} ${y + height - 4}` }, draw("title", {}, piece.shortcut)),
        );
      }
    } else write(left + 8, y + 16, cut(piece.block, 40));
    const shape = place === pieces.length - 1 ? `${classes} classes` : `${piece.side}² × ${piece.width}`;
    write(330, y + 16, shape, { class: "faint", "text-anchor": "end" });
    y += height + 14;
  });
  const shortcuts = [...new Set(pieces.slice(1, -1).map((piece) => piece.shortcut))];
  write(left, y + 2, cut(`⤺ ${shortcuts.join("; ")}`, 50), { class: "faint" });
  return draw("svg", { class: "diagram", viewBox: `0 0 336 ${y + 10}`, role: "img", "aria-label": `Diagram of the network: ${net.about}` }, ...shapes);
}

function costTable(net, costs) {
  const known = costs.filter((cost) => PIECE[cost]);
  const total = Object.fromEntries(known.map((cost) => [cost, net.pieces.reduce((sum, piece) => sum + piece[cost], 0)]));
  const row = (piece) => {
    const cells = known.map((cost) => {
      const share = total[cost] ? (100 * piece[cost]) / total[cost] : 0;
      return make("td", { class: "number bar", style: `--share: ${share.toFixed(1)}%`, title: `${share.toFixed(1)} %` }, formatCount(piece[cost]));
    });
    return make("tr", {}, make("th", { scope: "row" }, piece.name), ...cells);
  };
  const head = make("tr", {}, make("th", { scope: "col" }, "Piece"), ...known.map((cost) => make("th", { scope: "col", class: "number" }, PIECE[cost])));
  const caption = make("caption", {}, "Cost by piece; bars are shares of the network's");
  return make("table", { class: "pieces" }, caption, make("thead", {}, head), make("tbody", {}, ...net.pieces.map(row)));
}

// The chosen trial's validation accuracy by epoch, drawn over the curves of the front.
function curveOf(trial, others) {
  const shown = [trial, ...others].map((one) => one.curve).filter((curve) => curve.length);
  const last = Math.max(...shown.map((curve) => curve.at(-1)[0]), 2);
  const values = shown.flat().map(([, accuracy]) => accuracy);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high - low || 0.01;
  const [width, height, left, bottom] = [336, 150, 44, 24];
  const x = (epoch) => left + ((width - left - 8) * (epoch - 1)) / (last - 1);
  const y = (accuracy) => 8 + (height - bottom - 8) * (1 - (accuracy - low) / span);
  const line = (curve) => curve.map(([epoch, accuracy], k) => `${k ? "L" : "M"}${x(epoch).toFixed(1)} ${y(accuracy).toFixed(1)}`).join("");
  const parts = [draw("path", { class: "axis", d: `M${left} 4V${height - bottom}H${width - 4}` })];
  for (const tick of [low, low + span / 2, high]) {
    parts.push(draw("text", { class: "faint", x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, `${(100 * tick).toFixed(span < 0.03 ? 1 : 0)} %`));
  }
  for (const [epoch, anchor] of [[1, "start"], [last, "end"]]) {
    parts.push(draw("text", { class: "faint", x: x(epoch), y: height - 8, "text-anchor": anchor }, epoch === 1 ? "epoch 1" : String(epoch)));
  }
  for (const other of others) if (other !== trial) parts.push(draw("path", { class: "other", d: line(other.curve) }));
  parts.push(draw("path", { class: "own", d: line(trial.curve) }));
  const [epoch, accuracy] = trial.curve.at(-1);
  parts.push(draw("circle", { class: "now", cx: x(epoch), cy: y(accuracy), r: 4 }));
  const label = `Learning curve of ${trial.name}: validation accuracy from ${formatPercent(trial.curve[0][1])} % after epoch ${trial.curve[0][0]} to ${formatPercent(accuracy)} % after epoch ${epoch}`;
  return draw("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts);
}

// Gradient norms of the layers of the main path on a log axis, with lines for the first steps, the middle and the end of training.
function flowOf(trial) {
  const [depths, moments] = trial.flow;
  const powers = moments.flatMap(([, norms]) => norms).filter((norm) => norm > 0).map(Math.log10);
  if (!powers.length) return make("p", { class: "quiet" }, "No norm is a finite number.");
  const [low, high] = [Math.floor(Math.min(...powers)), Math.max(Math.ceil(Math.max(...powers)), Math.floor(Math.min(...powers)) + 1)];
  const [width, height, left, bottom] = [336, 170, 44, 24];
  const last = Math.max(depths.at(-1), 2);
  const x = (depth) => left + ((width - left - 8) * (depth - 1)) / (last - 1);
  const y = (power) => 24 + (height - bottom - 24) * (1 - (power - low) / (high - low));
  const parts = [draw("path", { class: "axis", d: `M${left} 20V${height - bottom}H${width - 4}` })];
  const every = Math.ceil((high - low) / 5);
  for (let power = low; power <= high; power += every) {
    parts.push(draw("text", { class: "faint", x: left - 5, y: y(power) + 4, "text-anchor": "end" }, power > -4 && power < 4 ? String(10 ** power) : `1e${power}`));
  }
  for (const [depth, anchor] of [[1, "start"], [last, "end"]]) {
    parts.push(draw("text", { class: "faint", x: x(depth), y: height - 8, "text-anchor": anchor }, depth === 1 ? "layer 1" : String(depth)));
  }
  const names = moments.map(([epoch]) => (epoch ? `epoch ${epoch}` : "first steps"));
  moments.forEach(([, norms], k) => {
    const there = norms.map((norm, place) => (norm > 0 ? [x(depths[place]), y(Math.log10(norm))] : null));
    const line = there.map((at, place) => at && `${place && there[place - 1] ? "L" : "M"}${at[0].toFixed(1)} ${at[1].toFixed(1)}`).filter(Boolean).join("");
    const look = { class: `own moment-${k}`, "stroke-dasharray": ["2 3", "7 4", null][k + 3 - moments.length] };
    const from = left + 4 + (k * (width - left)) / moments.length;
    parts.push(draw("path", { ...look, d: line }), draw("path", { ...look, d: `M${from} 10h22` }), draw("text", { class: "faint", x: from + 26, y: 14 }, names[k]));
  });
  const ends = moments.map(([, norms], k) => `${names[k]} ${norms[0]?.toPrecision(3) ?? "none"} at layer 1, ${norms.at(-1)?.toPrecision(3) ?? "none"} at the last`);
  return draw("svg", { class: "curve flow", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Gradient norms by layer of ${trial.name}: ${ends.join("; ")}` }, ...parts);
}
