// One task, dataset and setting at a time.
"use strict";

const sections = (() => {
  const select = byId("section");

  function show() {
    const number = Number(select.value);
    for (const part of document.querySelectorAll(".part")) part.hidden = Number(part.dataset.section) !== number;
    for (const title of document.querySelectorAll(".section-title")) title.textContent = report.sections[number].title;
    onSection.forEach((draw) => draw(number));
  }

  select.addEventListener("change", show);

  return {
    number: () => Number(select.value),
    /** Called by the last script, after all have registered in `onSection`. */
    show,
  };
})();
