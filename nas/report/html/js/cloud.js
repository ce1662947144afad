// Thousands of points on a canvas below a Plotly chart, which draws the axes and the few important points. Plotly's WebGL points
// compile shaders with `Function`, which the page's content security policy forbids. As SVG, ten thousand points make zooming
// slow.

class Cloud {
  constructor(plot) {
    this.plot = plot;
    this.canvas = make("canvas", { class: "cloud", "aria-hidden": "true" });
    plot.before(this.canvas);
    this.groups = []; // [{points: [{x, y}], symbol: "circle" | "cross", colour, alpha}]
    this.drawn = null; // the groups and the view that were last drawn
    this.state = "";
    plot.on("plotly_relayouting", (change) => this.moved(change));
    plot.on("plotly_relayout", () => this.draw());
    plot.on("plotly_afterplot", () => this.draw());
  }

  // The view: [low, high] of each axis, as exponents if the axis is logarithmic, and the plot's box in pixels.
  frame() {
    const { xaxis, yaxis, _size } = this.plot._fullLayout;
    return { x: [...xaxis.range], y: [...yaxis.range], logX: xaxis.type === "log", logY: yaxis.type === "log", box: _size };
  }

  moved(change) {
    const frame = this.frame();
    for (const axis of ["x", "y"]) {
      for (const end of [0, 1]) frame[axis][end] = change[`${axis}axis.range[${end}]`] ?? frame[axis][end];
    }
    this.draw(frame);
  }

  // Data to pixels of the plot's element.
  at(frame, x, y) {
    const { box } = frame;
    const along = ([low, high], value, log) => ((log ? Math.log10(value) : value) - low) / (high - low);
    return [box.l + box.w * along(frame.x, x, frame.logX), box.t + box.h * (1 - along(frame.y, y, frame.logY))];
  }

  draw(frame = this.frame()) {
    const { canvas, plot } = this;
    const ratio = devicePixelRatio || 1;
    const { width, height } = plot._fullLayout;
    // Plotly reports every redraw, also for a moved ring, which does not require drawing ten thousand points again.
    const state = JSON.stringify([frame, width, height, ratio, this.groups.map((group) => Boolean(group.hidden?.()))]);
    if (this.groups === this.drawn && state === this.state) return;
    [this.drawn, this.state] = [this.groups, state];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(frame.box.l, frame.box.t, frame.box.w, frame.box.h);
    pen.clip();
    let count = 0;
    for (const group of this.groups) {
      if (group.hidden?.()) continue;
      const stamp = this.stamp(group, ratio);
      const half = stamp.width / ratio / 2;
      pen.globalAlpha = group.alpha;
      for (const { x, y } of group.points) {
        const [left, top] = this.at(frame, x, y);
        if (left < -9 || top < -9 || left > width + 9 || top > height + 9) continue;
        pen.drawImage(stamp, left - half, top - half, 2 * half, 2 * half);
      }
      count += group.points.length;
    }
    pen.restore();
    plot.dataset.cloud = count;
  }

  // Draw a symbol once: copying it is ten times faster than drawing the path again.
  stamp({ symbol, colour: ink, radius }, ratio) {
    const side = Math.ceil(2 * radius + 4);
    const canvas = make("canvas", { width: side * ratio, height: side * ratio });
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.strokeStyle = ink;
    pen.lineWidth = radius > 3 ? 1.5 : 1;
    const middle = side / 2;
    if (symbol === "cross") {
      for (const sign of [1, -1]) {
        pen.moveTo(middle - radius, middle - sign * radius);
        pen.lineTo(middle + radius, middle + sign * radius);
      }
    } else pen.arc(middle, middle, radius, 0, 2 * Math.PI);
    pen.stroke();
    return canvas;
  }
}
