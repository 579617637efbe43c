// The reconstructions of all methods, or their errors, with one zoom and position.
"use strict";

(() => {
  const MOST = 16;
  const place = byId("panels");
  const view = { zoom: 1, x: 0.5, y: 0.5 }; // x, y: the centre, as fractions of the window
  let shown = null; // the chosen image
  let panels = [];
  let turn = 0; // counts choices: the result of decoding is dropped if another image was chosen meanwhile

  // The colours of errors: from black over violet and orange to pale yellow.
  const STOPS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const RAMP = Array.from({ length: 256 }, (_, value) => {
    const at = (value / 255) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((from, channel) => Math.round(from + (at - low) * (STOPS[low + 1][channel] - from)));
  });
  document.querySelector(".ramp").style.background = `linear-gradient(90deg, ${STOPS.map((stop) => `rgb(${stop})`)})`;

  const mode = () => document.querySelector("input[name=show]:checked").value;
  const gain = () => Number(byId("gain").value);

  async function decoded(address) {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = element("canvas", { width: image.width, height: image.height });
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(image, 0, 0);
    return canvas;
  }

  const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);

  /** |estimate - truth| in grey levels, mean over colours; null if the sizes differ. */
  function distance(estimate, truth) {
    if (estimate.width !== truth.width || estimate.height !== truth.height) return null;
    const a = pixels(estimate).data;
    const b = pixels(truth).data;
    const found = new Float32Array(a.length / 4);
    for (let i = 0; i < found.length; i++) {
      const p = 4 * i;
      found[i] = (Math.abs(a[p] - b[p]) + Math.abs(a[p + 1] - b[p + 1]) + Math.abs(a[p + 2] - b[p + 2])) / 3;
    }
    return found;
  }

  function painted(error, width, height) {
    const canvas = element("canvas", { width, height });
    const colours = new ImageData(width, height);
    error.forEach((value, i) => colours.data.set([...RAMP[Math.min(255, Math.round(value * gain()))], 255], 4 * i));
    canvas.getContext("2d").putImageData(colours, 0, 0);
    return canvas;
  }

  async function choose() {
    const mine = ++turn;
    const image = shown;
    const read = await Promise.all(
      image.panels.map(async (panel) => {
        if (panel.png === undefined) return { ...panel };
        try {
          return { ...panel, image: await decoded(panel.png) };
        } catch {
          return { ...panel, message: "this image cannot be decoded" };
        }
      }),
    );
    if (mine !== turn) return;
    const truth = read.find((panel) => panel.title === "truth")?.image;
    for (const panel of read) {
      if (panel.title !== "truth" && panel.image && truth) panel.error = distance(panel.image, truth);
    }
    panels = read;
    const whole = image.rows === image.height && image.columns === image.width;
    byId("window").textContent = whole
      ? `${image.image}, ${image.width} × ${image.height} pixels.`
      : `${image.image}: rows ${image.top} to ${image.top + image.rows - 1}, columns ${image.left} to ` +
        `${image.left + image.columns - 1} of ${image.width} × ${image.height} pixels.`;
    lay();
  }

  /** Build the panels of the chosen mode: image, error or both. */
  function lay() {
    const chosen = mode();
    byId("scale").hidden = chosen === "image";
    byId("scale-top").textContent = `${(255 / gain()).toFixed(0)} or more`;
    byId("gain").disabled = chosen === "image";
    place.replaceChildren(
      ...panels.map((panel) => {
        const digits = report.metrics[report.sections[sections.number()].metrics[0]].digits;
        const score = panel.score === null ? "" : panel.score.toFixed(digits);
        const figure = element("figure", { className: `panel${isLorun(panel.title) ? " ours" : ""}` });
        figure.dataset.method = panel.title;
        figure.append(element("figcaption", {}, element("span", {}, panel.title), element("span", {}, score)));
        panel.canvases = [];
        if (panel.image === undefined) {
          figure.append(element("div", { className: "absent" }, panel.message));
          return figure;
        }
        const sources = [];
        if (chosen !== "error" || panel.title === "truth") sources.push(["image", panel.image]);
        if (chosen !== "image" && panel.error) {
          sources.push(["error", painted(panel.error, panel.image.width, panel.image.height)]);
        }
        for (const [kind, source] of sources) {
          const canvas = element("canvas", { className: kind, width: 512, height: Math.round((512 * source.height) / source.width) });
          canvas.setAttribute("role", "img");
          canvas.setAttribute("aria-label", `${panel.title}, ${kind === "image" ? "image" : "error"}`);
          panel.canvases.push([canvas, source]);
          figure.append(canvas);
        }
        if (chosen !== "image" && panel.title !== "truth" && !panel.error) {
          figure.append(element("div", { className: "absent" }, "no error map: no true image of this size"));
        }
        return figure;
      }),
    );
    draw();
  }

  function draw() {
    const half = 0.5 / view.zoom;
    view.x = Math.min(Math.max(view.x, half), 1 - half);
    view.y = Math.min(Math.max(view.y, half), 1 - half);
    for (const { canvases = [] } of panels) {
      for (const [canvas, source] of canvases) {
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        const [width, height] = [source.width / view.zoom, source.height / view.zoom];
        const left = view.x * source.width - width / 2;
        const top = view.y * source.height - height / 2;
        context.drawImage(source, left, top, width, height, 0, 0, canvas.width, canvas.height);
      }
    }
    place.classList.toggle("zoomed", view.zoom > 1);
    byId("zoom-value").textContent = `${view.zoom.toFixed(1)}×`;
  }

  /** Zoom by a factor around the point (x, y), in fractions of a panel. */
  function zoom(factor, x = 0.5, y = 0.5) {
    const before = view.zoom;
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), MOST);
    view.x += (x - 0.5) * (1 / before - 1 / view.zoom);
    view.y += (y - 0.5) * (1 / before - 1 / view.zoom);
    draw();
  }

  function move(x, y) {
    view.x += x / view.zoom;
    view.y += y / view.zoom;
    draw();
  }

  function reset() {
    Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
    draw();
  }

  /** The position of an event in its panel, in fractions of the sides. */
  function within(event) {
    const box = event.target.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  const isPanel = (event) => event.target instanceof HTMLCanvasElement;
  const pointers = new Map();

  place.addEventListener("pointerdown", (event) => {
    if (!isPanel(event)) return;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (view.zoom > 1 || pointers.size > 1) event.target.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined || !isPanel(event)) return;
    const box = event.target.getBoundingClientRect();
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other !== undefined) {
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      const [x, y] = [(before[0] + other[0]) / 2, (before[1] + other[1]) / 2];
      zoom(apart([event.clientX, event.clientY]) / Math.max(apart(before), 1), (x - box.left) / box.width, (y - box.top) / box.height);
    } else if (view.zoom > 1) {
      move((before[0] - event.clientX) / box.width, (before[1] - event.clientY) / box.height);
    }
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "pointerleave"]) {
    place.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  place.addEventListener("dblclick", (event) => isPanel(event) && zoom(2, ...within(event)));
  place.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey || !isPanel(event)) return; // let the page scroll; a pinch on a trackpad arrives with Ctrl
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 200), ...within(event));
    },
    { passive: false },
  );
  place.addEventListener("keydown", (event) => {
    const step = 0.15;
    const does = {
      "+": () => zoom(1.5),
      "=": () => zoom(1.5),
      "-": () => zoom(1 / 1.5),
      0: reset,
      ArrowLeft: () => move(-step, 0),
      ArrowRight: () => move(step, 0),
      ArrowUp: () => move(0, -step),
      ArrowDown: () => move(0, step),
    }[event.key];
    if (does === undefined || event.ctrlKey || event.metaKey) return;
    if (event.key.startsWith("Arrow") && view.zoom === 1) return; // let the page scroll
    event.preventDefault();
    does();
  });
  byId("zoom-in").addEventListener("click", () => zoom(1.5));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
  byId("zoom-reset").addEventListener("click", reset);
  byId("gain").addEventListener("input", () => {
    byId("gain-value").textContent = `×${gain()}`;
    lay();
  });
  for (const radio of document.querySelectorAll("input[name=show]")) radio.addEventListener("change", lay);

  function chooseImage() {
    const images = report.sections[sections.number()].crops;
    shown = images[Number(byId("image").value)];
    reset();
    choose();
  }

  byId("image").addEventListener("change", chooseImage);
  onSection.push((number) => {
    const images = report.sections[number].crops;
    byId("viewer").hidden = !images.length;
    byId("image").replaceChildren(...images.map((one, at) => element("option", { value: at }, one.image)));
    if (images.length) chooseImage();
  });

  sections.show(); // the last script, so all have registered
})();
