// Placement of labels next to their points, as in figures/labels.py: labels never overlap one another, and cover as few marks as
// possible. Points are [x, y] in pixels, y downwards; boxes [left, top, right, bottom].

const LABEL = { away: 8.5, letter: 0.58, mark: 5, font: 13 };

// Points on the staircase from corner to corner, first horizontally, then vertically.
function alongStairs(corners, every = 8) {
  const found = [];
  for (let k = 1; k < corners.length; k += 1) {
    const [[x, y], [endX, endY]] = [corners[k - 1], corners[k]];
    for (let at = x; at <= endX; at += every) found.push([at, y]);
    for (let at = Math.min(y, endY); at <= Math.max(y, endY); at += every) found.push([endX, at]);
  }
  return found;
}

function labelBox([x, y], side, width) {
  const [vertical, horizontal] = side.split(" ");
  const left = { right: x + LABEL.away, left: x - LABEL.away - width, center: x - width / 2 }[horizontal];
  const top = { bottom: y + LABEL.away, top: y - LABEL.away - LABEL.font, middle: y - LABEL.font / 2 }[vertical];
  return [left, top, left + width, top + LABEL.font];
}

// Plotly's textposition of each label; "" if it would overlap another label in every position.
function labelSides(points, texts, marks, [wide, high]) {
  const placed = [];
  const found = points.map(() => "");
  const order = points.map((_, k) => k).sort((a, b) => points[a][0] - points[b][0] || points[a][1] - points[b][1]);
  for (const k of order) {
    const [px, py] = points[k];
    const others = [...points, ...marks].filter(([x, y]) => x !== px || y !== py);
    const inward = px > wide / 2 ? ["left", "right"] : ["right", "left"];
    const choices = inward.flatMap((horizontal) => ["bottom", "top", "middle"].map((vertical) => `${vertical} ${horizontal}`));
    let least = Infinity;
    let best = null;
    for (const side of [...choices, "bottom center", "top center"]) {
      const own = labelBox([px, py], side, LABEL.letter * LABEL.font * texts[k].length);
      const [left, top, right, bottom] = own;
      if (placed.some(([a, b, c, d]) => a < right && left < c && b < bottom && top < d)) continue;
      const outside = left < 0 || top < 0 || right > wide || bottom > high;
      const covered = others.filter(([x, y]) => x > left - LABEL.mark && x < right + LABEL.mark && y > top - LABEL.mark && y < bottom + LABEL.mark);
      const trouble = covered.length + outside * (others.length + 1);
      if (trouble < least) [least, best, found[k]] = [trouble, own, side];
    }
    if (best) placed.push(best);
  }
  return found;
}
