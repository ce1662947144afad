// Draws the page's figures and repaints them when the reader's system changes between light and dark. Each trace names its
// role in `meta`; the colours of roles and of all else are the page's CSS variables.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const touch = matchMedia("(pointer: coarse)").matches;
  const narrow = matchMedia("(max-width: 40rem)");
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // Plotly's own set has one that uploads the chart
    plotlyServerURL: "",
    doubleClick: "reset+autosize",
    showTips: false,
    typesetMath: false, // a name like $x$ is a name
  };

  // On a narrow log axis: a label at each power of 10, or at 1, 2 and 5, or as Plotly likes where the costs are nearly equal.
  function steps([low, high]) {
    return high - low > 1.3 ? 1 : high - low > 0.7 ? "D2" : null;
  }

  function paint({ data, layout }) {
    for (const trace of data) {
      for (const part of ["marker", "line", "textfont"]) {
        if (trace[part]) trace[part].color = colour(trace.meta);
      }
    }
    const look = layout.template.layout;
    look.paper_bgcolor = look.plot_bgcolor = colour("page");
    look.font.color = look.hoverlabel.font.color = look.modebar.activecolor = colour("ink");
    look.hoverlabel.bgcolor = colour("raised");
    look.hoverlabel.bordercolor = look.modebar.color = colour("muted");
    for (const axis of [look.xaxis, look.yaxis]) axis.gridcolor = axis.linecolor = colour("rule");
    for (const slider of layout.sliders ?? []) {
      slider.bgcolor = colour("raised");
      slider.activebgcolor = colour("link");
      slider.bordercolor = slider.tickcolor = colour("muted");
    }
    look.font.size = narrow.matches ? 12 : 13;
    if (layout.xaxis.type === "log") layout.xaxis.dtick = narrow.matches ? steps(layout.xaxis.range) : null;
    layout.dragmode = touch ? false : "zoom"; // a finger on a chart scrolls the page
  }

  // Once drawn, the drawing is the image; its buttons stand beside it. The layers above the first hold nothing to be read.
  function name(place, figure) {
    figure.label ??= place.getAttribute("aria-label");
    for (const attribute of ["role", "aria-label"]) place.removeAttribute(attribute);
    const [image, ...layers] = place.querySelectorAll(".main-svg");
    image.setAttribute("role", "img");
    image.setAttribute("aria-label", figure.label);
    for (const layer of layers) layer.setAttribute("aria-hidden", "true");
  }

  function draw() {
    for (const figure of figures) {
      const place = document.getElementById(figure.id);
      paint(figure);
      Plotly.react(place, figure.data, figure.layout, config).then(() => name(place, figure));
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
