// Plots: scores against costs, training curves, costs against the number of stages, times.
"use strict";

const charts = (() => {
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const MB = 1e6;
  const NARROW = 640;

  /** The colour and the marker of a method, those of the figures (lorun/results/colours.py). */
  const look = (method) => ({ ...report.looks[method], size: isLorun(method) ? 11 : 9 });

  /** The layout of plots side by side, or below each other on a narrow screen: a title of x and of y for each. */
  function layout(place, plots, shareY = false) {
    const narrow = place.clientWidth < NARROW;
    place.style.height = `${narrow ? 300 * plots.length + 120 : 400}px`; // Plotly fills the element
    const text = theme.colour("text");
    const axis = {
      gridcolor: theme.colour("line"),
      linecolor: theme.colour("line"),
      zeroline: false,
      tickcolor: theme.colour("line"),
      automargin: true,
    };
    const found = {
      margin: { l: 64, r: 18, t: 24, b: 60 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: text },
      hoverlabel: { bgcolor: theme.colour("raised"), bordercolor: theme.colour("line"), font: { color: text } },
      legend: { orientation: "h", x: 0, y: narrow ? -0.08 : -0.22, yanchor: "top" },
      hovermode: "closest",
      dragmode: false,
    };
    const gap = narrow ? 90 / (300 * plots.length) : shareY ? 0.05 : 0.1;
    const part = (1 - gap * (plots.length - 1)) / plots.length;
    plots.forEach((plot, number) => {
      const n = number ? String(number + 1) : "";
      const title = (text) => ({ title: { text, standoff: 8 } });
      const [row, column] = narrow ? [plots.length - 1 - number, 0] : [0, number];
      const domain = (at) => ({ domain: [at * (part + gap), at * (part + gap) + part] });
      const x = narrow ? {} : domain(column);
      const y = narrow ? domain(row) : {};
      found[`xaxis${n}`] = { ...axis, ...title(plot.x), anchor: `y${n}`, ...x, ...plot.xaxis };
      found[`yaxis${n}`] = { ...axis, ...title(shareY && number && !narrow ? "" : plot.y), anchor: `x${n}`, ...y, ...plot.yaxis };
    });
    return found;
  }

  const axes = (number) => ({ xaxis: number ? `x${number + 1}` : "x", yaxis: number ? `y${number + 1}` : "y" });

  /** Properties of a trace: its axes, and one entry of the legend for all traces of a method. */
  const named = (traces, number, method) => ({
    ...axes(number),
    name: method,
    legendgroup: method,
    showlegend: !traces.some((trace) => trace.name === method),
  });

  /** A logarithmic axis if the positive values differ by much. */
  function scale(values) {
    const known = values.filter((value) => value > 0);
    const ratio = known.length ? Math.max(...known) / Math.min(...known) : 1;
    return ratio > 8 ? { type: "log", dtick: ratio > 1000 ? 1 : "D2" } : {};
  }

  function draw(place, traces, layout) {
    Plotly.react(place, traces, layout, { displaylogo: false, displayModeBar: false, responsive: true });
  }

  function costs(number) {
    const place = byId("costs-plot");
    const section = report.sections[number];
    const name = byId("metric").value;
    const metric = report.metrics[name];
    const scored = section.points.filter((point) => point.scores[name]?.[0] != null);
    place.hidden = !scored.length;
    byId("costs-none").hidden = Boolean(scored.length);
    byId("costs-none").textContent = `No method has a ${metric.heading} here yet.`;
    if (!scored.length) return;
    const kinds = [
      { key: "parameters", x: "parameters of the network", unit: 1, format: ",.0f" },
      { key: "step", x: "peak of a training step (MB)", unit: MB, format: ",.1f" },
      { key: "inference", x: "peak of a reconstruction (MB)", unit: MB, format: ",.2f" },
    ];
    const y = `${metric.heading}${metric.better === "lower" ? ", lower is better" : ""}`;
    byId("costs-protocol").textContent = section.protocol;
    const ends = scored.flatMap(({ scores: { [name]: [value, sd] } }) => [value - (sd ?? 0), value + (sd ?? 0)]);
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const edge = 0.08 * (most - least) || 0.05 * Math.abs(most) || 1;
    const yaxis = { range: [least - edge, most + edge] }; // the same in all three plots
    const plots = kinds.map((kind) => {
      const values = scored.map((point) => point[kind.key]).filter((value) => value > 0);
      return { x: kind.x, y, yaxis, xaxis: values.length ? scale(values) : { showticklabels: false, showgrid: false } };
    });
    // Plotly draws axes only with a trace, so each plot gets an empty one.
    const traces = kinds.map((_, at) => ({ ...axes(at), x: [null], y: [null], showlegend: false, hoverinfo: "skip" }));
    const shapes = [];
    const annotations = [];
    kinds.forEach((kind, at) => {
      for (const point of scored) {
        const [value, sd] = point.scores[name];
        if (point[kind.key] > 0) {
          const own = look(point.method);
          traces.push({
            ...named(traces, at, point.method),
            mode: "markers",
            x: [point[kind.key] / kind.unit],
            y: [value],
            error_y: { type: "data", array: [sd ?? 0], visible: sd !== null, color: own.color, thickness: 1.2, width: 4 },
            marker: { ...own, line: { width: 1.5, color: own.color } },
            customdata: [point.line],
            hovertemplate: `<b>${point.method}</b><br>${metric.heading} ${value.toFixed(metric.digits)}<br>${kind.x}: %{x:${kind.format}}<extra></extra>`,
          });
        } else {
          const n = at ? String(at + 1) : "";
          const own = look(point.method);
          shapes.push({ type: "line", xref: `x${n} domain`, yref: `y${n}`, x0: 0, x1: 1, y0: value, y1: value, line: { color: own.color, width: 1.2, dash: "dot" } });
          annotations.push({ xref: `x${n} domain`, yref: `y${n}`, x: 1, y: value, xanchor: "right", yanchor: "bottom", text: point.method, showarrow: false, font: { size: 11, color: own.color } });
        }
      }
    });
    draw(place, traces, { ...layout(place, plots, true), shapes, annotations });
    if (!place.dataset.listens) {
      place.dataset.listens = "yes";
      place.on("plotly_click", (event) => {
        const line = event.points[0].customdata;
        if (line !== null && line !== undefined) provenance.open(line);
      });
    }
  }

  function curves(number) {
    const place = byId("curves-plot");
    const shown = report.curves[report.sections[number].place] ?? [];
    place.hidden = !shown.length;
    byId("curves-none").hidden = Boolean(shown.length);
    byId("curves-hint").hidden = !shown.length;
    if (!shown.length) return;
    const kinds = ["loss", "validation_psnr"];
    const seeds = [...new Set(shown.map((curve) => curve.seed))];
    const traces = [];
    kinds.forEach((kind, at) => {
      for (const curve of shown) {
        if (curve[kind].every((value) => value === null)) continue;
        traces.push({
          ...named(traces, at, curve.method),
          mode: curve.step.length > 1 ? "lines" : "markers",
          x: curve.step,
          y: curve[kind],
          line: { color: look(curve.method).color, width: isLorun(curve.method) ? 2.4 : 1.6, dash: DASHES[seeds.indexOf(curve.seed) % DASHES.length] },
          marker: look(curve.method),
          hovertemplate: `<b>${curve.method}</b>, seed ${curve.seed}<br>step %{x}: %{y}<extra></extra>`,
        });
      }
    });
    const plots = [
      { x: "step", y: "training loss", yaxis: scale(shown.flatMap((curve) => curve.loss)) },
      { x: "step", y: "validation PSNR (dB)" },
    ];
    draw(place, traces, layout(place, plots));
  }

  function scaling() {
    const place = byId("scaling-plot");
    if (place === null) return;
    const traces = [];
    const kinds = ["step_total", "inference_total", "parameters_network"];
    kinds.forEach((kind, at) => {
      for (const series of report.scaling.series) {
        const recomputed = series.recompute !== "none";
        if (recomputed && kind !== "step_total") continue;
        traces.push({
          ...named(traces, at, series.method),
          mode: "lines",
          x: series.stages,
          y: series[kind].map((value) => value / MB),
          line: { color: look(series.method).color, width: isLorun(series.method) ? 2.6 : 1.6, dash: recomputed ? "dash" : "solid" },
          hovertemplate: `<b>${series.method}</b>${recomputed ? ", recomputed" : ""}<br>K = %{x}: %{y:,.3f}<extra></extra>`,
        });
      }
    });
    const whole = { rangemode: "tozero" };
    const plots = [
      { x: "stages K", y: "peak of a training step (MB)", yaxis: whole },
      { x: "stages K", y: "peak of a reconstruction (MB)", yaxis: whole },
      { x: "stages K", y: "parameters of the network (millions)", yaxis: whole },
    ];
    draw(place, traces, layout(place, plots));
  }

  function times(number) {
    const place = byId("times-plot");
    const { points } = report.sections[number];
    const kinds = [
      { key: "latency", y: "latency of a reconstruction (ms)", what: "latency", format: ",.1f", unit: "ms" },
      { key: "training", y: "training (s), mean over seeds", what: "training", format: ",.0f", unit: "s" },
    ].filter((kind) => points.some((point) => point[kind.key] !== null));
    place.hidden = !kinds.length;
    byId("times-note").hidden = !kinds.length;
    byId("times-none").hidden = Boolean(kinds.length);
    if (!kinds.length) return;
    const machines = new Set();
    const traces = [];
    kinds.forEach((kind, at) => {
      for (const point of points.filter((one) => one[kind.key] !== null)) {
        const { value, least, most, device, threads } = point[kind.key];
        const own = look(point.method);
        machines.add(`${kind.what} on ${device ?? "–"}, ${threads ?? "–"} threads`);
        traces.push({
          ...named(traces, at, point.method),
          mode: "markers",
          marker: { ...own, line: { width: 1.5, color: own.color } },
          x: [point.stages ?? 0],
          y: [value],
          error_y: { type: "data", symmetric: false, array: [most - value], arrayminus: [value - least], color: own.color, thickness: 1.2, width: 4 },
          hovertemplate: `<b>${point.method}</b>, K = %{x}<br>%{y:${kind.format}} ${kind.unit}<extra></extra>`,
        });
      }
    });
    byId("times-note").textContent =
      `Times depend on the machine: ${[...machines].join("; ")}. ` +
      "Training: mean and range over seeds, without the training of a pretrained base. K = 0: no stages.";
    const most = Math.max(...points.map((point) => point.stages ?? 0), 1);
    const xaxis = { dtick: most > 12 ? 5 : 1, range: [-0.06 * most - 0.2, 1.06 * most + 0.2] };
    const plots = kinds.map((kind) => ({ x: "stages K", y: kind.y, xaxis, yaxis: { rangemode: "tozero" } }));
    draw(place, traces, layout(place, plots));
  }

  function all(number) {
    costs(number);
    curves(number);
    times(number);
    scaling();
  }

  byId("metric").addEventListener("change", () => costs(sections.number()));
  onSection.push((number) => {
    const names = report.sections[number].metrics;
    byId("metric").replaceChildren(...names.map((name) => element("option", { value: name }, report.metrics[name].heading)));
    all(number);
  });
  onTheme.push(() => all(sections.number()));

  let narrow = innerWidth < NARROW;
  addEventListener("resize", () => {
    if (narrow === innerWidth < NARROW) return; // Plotly follows the width by itself
    narrow = !narrow;
    all(sections.number());
  });
})();
