// One task, dataset and setting at a time.
"use strict";

const sections = (() => {
  const select = byId("section");

  function show() {
    const number = Number(select.value);
    for (const of of document.querySelectorAll(".of")) of.hidden = Number(of.dataset.section) !== number;
    for (const title of document.querySelectorAll(".of-section")) title.textContent = report.sections[number].title;
    onSection.forEach((draw) => draw(number));
  }

  select.addEventListener("change", show);

  return {
    number: () => Number(select.value),
    /** Called by the last script, when all of them listen. */
    show,
  };
})();
