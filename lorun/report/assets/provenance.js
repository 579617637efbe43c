// A dialog that shows where the numbers of a line come from.
"use strict";

const provenance = (() => {
  const dialog = byId("line");

  const yes = (value) => (value === null ? null : value ? "yes" : "no");

  /** A list of names and values, without the unknown ones. */
  function facts(pairs) {
    const list = element("dl");
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      list.append(element("dt", {}, name), element("dd", {}, String(value)));
    }
    return list;
  }

  function commands(lines) {
    return element("pre", { tabIndex: 0 }, element("code", {}, lines.join("\n")));
  }

  /** The scores of a run: a row per image, a column per metric. */
  function scores(line, run) {
    if (!run.scores.length) return null;
    const head = element("tr", {}, element("th", { scope: "col" }, "image"));
    if (line.degradations) head.append(element("th", { scope: "col" }, "degradation"));
    for (const name of line.metrics) {
      head.append(element("th", { scope: "col", className: "number" }, report.metrics[name].heading));
    }
    const body = element("tbody");
    for (const [image, degradation, values] of run.scores) {
      const row = element("tr", {}, element("th", { scope: "row" }, image));
      if (line.degradations) row.append(element("td", {}, degradation ?? ""));
      for (const name of line.metrics) {
        row.append(element("td", { className: "number" }, values[name]?.toFixed(6) ?? "–"));
      }
      body.append(row);
    }
    const table = element("table", {}, element("caption", {}, "Scores by image"), element("thead", {}, head), body);
    return element("div", { className: "scroll", tabIndex: 0 }, table);
  }

  function weights(run) {
    if (run.weights !== null) return `released: ${run.weights}`;
    return run.steps ? `trained here: ${run.folder}` : `none trained: ${run.folder}`;
  }

  function oneRun(line, run) {
    const uncommitted = run.dirty || run.trained_dirty;
    return element(
      "details",
      { open: run === line.runs[0] },
      element("summary", {}, `Seed ${run.seed}: ${run.status}${run.message ? `, ${run.message}` : ""}`),
      run.note === null ? null : element("p", { className: "message" }, run.note),
      uncommitted
        ? element("p", { className: "message" }, "The code had uncommitted changes (dirty), so the commit alone may not reproduce this.")
        : null,
      facts([
        ["code, trained", run.trained_commit],
        ["code, scored", run.commit],
        ["modules (code.json)", run.code],
        ["data (md5)", run.data_md5],
        ["weights", weights(run)],
        ["run key", run.run],
        ["configuration hash", run.config_hash],
        ["seed", run.seed],
        ["steps", run.steps],
        ["scored step", run.scored_step === null ? null : `${run.scored_step} (${run.checkpoint_policy})`],
        ["trained on", run.trained_device === null ? null : `${run.trained_device}, ${run.trained_threads ?? "–"} threads`],
        ["scored on", run.device === null ? null : `${run.device}, ${run.threads ?? "–"} threads`],
        ["Python", run.python],
        ["versions", run.versions],
      ]),
      element("p", {}, "To reproduce it, in a clone:"),
      commands(run.commands),
      scores(line, run),
    );
  }

  function counted(account) {
    if (account === null) return element("p", { className: "none" }, "No parameters and bytes were counted for this method.");
    return element(
      "details",
      {},
      element("summary", {}, "Parameters, bytes and FLOPs"),
      facts([
        ["code", account.commit],
        ["uncommitted changes", yes(account.dirty)],
        ["run key", account.run],
        ["configuration hash", account.config_hash],
        ["device", account.device],
        ["threads", account.threads],
        ["Python", account.python],
        ["versions", account.versions],
      ]),
      commands(account.commands),
    );
  }

  function open(number) {
    const line = report.lines[number];
    byId("line-title").textContent = line.title;
    byId("line-body").replaceChildren(...line.runs.map((run) => oneRun(line, run)), counted(line.account));
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-line]");
    if (button !== null) open(Number(button.dataset.line));
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  return { open };
})();
