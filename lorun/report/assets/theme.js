// Light or dark: as the system, or as chosen with the button. Nothing is stored.
"use strict";

const theme = (() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const choices = ["Auto", "Light", "Dark"];
  let chosen = "Auto";

  function apply() {
    const dark = chosen === "Auto" ? system.matches : chosen === "Dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").textContent = chosen;
    const words = chosen === "Auto" ? "those of the system" : chosen.toLowerCase();
    byId("theme").setAttribute("aria-label", `Colours: ${words}`);
    onTheme.forEach((draw) => draw());
  }

  byId("theme").addEventListener("click", () => {
    chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
    apply();
  });
  system.addEventListener("change", apply);
  apply();

  return {
    /** The value of a colour of page.css. */
    colour: (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
  };
})();
