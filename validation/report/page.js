"use strict";
// On paper everything is open.
addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((fold) => {
  fold.open = true; fold.dataset.opened = "";
}));
addEventListener("afterprint", () => document.querySelectorAll("details[data-opened]").forEach((fold) => {
  fold.open = false; delete fold.dataset.opened;
}));

// The phase diagram: curves at one latent dimension, the map of the collapse time, sliders for both and for the activation.
(() => {
  const source = document.getElementById("diagram-data");
  if (!source || typeof Plotly === "undefined") return;
  const data = JSON.parse(source.textContent);
  const of = (id) => document.getElementById(id);
  const kinds = { onset: ["<i>t<sub>o</sub></i>", "#E69F00"], collapse: ["<i>t<sub>c</sub></i>", "#D55E00"],
    condensation: ["<i>t</i><sub>cond</sub>", "#0072B2"], generalization: ["<i>t<sub>g</sub></i>", "#009E73"] };
  const config = { responsive: true, displayModeBar: false };
  const axis = { gridcolor: "#e8ecf2", zeroline: false, exponentformat: "power" };
  const layout = (more) => Object.assign({ margin: { l: 58, r: 8, t: 34, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", font: { size: 12 }, showlegend: true, legend: { orientation: "h", y: 1.12, x: 0 } }, more);
  const point = (x, y, text, error) => ({ x: [x], y: [y], mode: "markers+text", text: [text], textposition: "top center", name: text,
    showlegend: false, marker: { size: 11, color: "black", symbol: "star" }, error_y: error ? { array: [error] } : undefined });
  const number = (value) => value == null ? "none" : Math.abs(Math.log10(value)) < 4 ? value.toPrecision(3) : value.toExponential(2);

  function draw() {
    const model = data.models[of("model").value];
    const i = Math.min(+of("latent").value, model.alpha_D.length - 1), alpha = 10 ** +of("load").value;
    of("latent").max = model.alpha_D.length - 1;
    const alphaD = model.alpha_D[i], lines = [], told = [];
    for (const [kind, [symbol, color]] of Object.entries(kinds)) {
      if (!model.log10_t[kind]) continue;
      const y = model.log10_t[kind][i];
      lines.push({ x: model.alpha, y: y.map((v) => v == null ? null : 10 ** v), mode: "lines", name: symbol, line: { color, width: 2.2 } });
      told.push(symbol + " = " + number(at(model.alpha, y, alpha)));
    }
    if (data.point) lines.push(point(data.point.alpha, data.point.t, data.point.name, data.point.error));
    const upright = { type: "line", x0: alpha, x1: alpha, yref: "paper", y0: 0, y1: 1, line: { color: "#888", dash: "dot", width: 1.5 } };
    Plotly.react("diagram-lines", lines, layout({ shapes: [upright],
      xaxis: { ...axis, type: "log", title: { text: "load <i>α</i> = log <i>P</i> / <i>N</i>" } },
      yaxis: { ...axis, type: "log", title: { text: "noise variance / data variance" } } }), config);
    const map = [{ type: "heatmap", x: model.alpha, y: model.alpha_D, z: model.log10_t.collapse, colorscale: "Viridis", showscale: true, zmin: -6, zmax: 3,
      colorbar: { title: { text: "log<sub>10</sub> <i>t<sub>c</sub></i>" }, thickness: 12 }, hovertemplate: "α %{x:.3g}, α_D %{y:.3g}: %{z:.3g}<extra></extra>" },
      { x: [alpha], y: [alphaD], mode: "markers", showlegend: false, marker: { color: "white", size: 11, symbol: "cross", line: { color: "black", width: 1 } } }];
    if (data.point) map.push(point(data.point.alpha, data.point.alpha_D, data.point.name));
    Plotly.react("diagram-map", map, layout({ showlegend: false,
      xaxis: { ...axis, type: "log", title: { text: "load <i>α</i>" } },
      yaxis: { ...axis, type: "log", title: { text: "latent dimension <i>α<sub>D</sub></i> = <i>D</i> / <i>N</i>" } } }), config);
    of("latent-value").textContent = alphaD.toPrecision(3);
    of("load-value").textContent = alpha.toPrecision(3) + (data.N ? ", P = " + number(Math.exp(alpha * data.N)) : "");
    of("diagram-told").innerHTML = told.join(", ");
  }

  // interpolation in log t along log alpha
  function at(x, y, value) {
    for (let k = 0; k + 1 < x.length; k++) {
      if (x[k] <= value * (1 + 1e-9) && value <= x[k + 1] * (1 + 1e-9) && y[k] != null && y[k + 1] != null) {
        const share = (Math.log(value) - Math.log(x[k])) / (Math.log(x[k + 1]) - Math.log(x[k]));
        return 10 ** (y[k] + share * (y[k + 1] - y[k]));
      }
    }
    return null;
  }

  for (const id of ["model", "latent", "load"]) of(id).addEventListener("input", draw);
  draw();
})();
