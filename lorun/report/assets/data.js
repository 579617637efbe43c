// The numbers of the page, and helpers of all scripts.
"use strict";

document.documentElement.classList.add("scripted");

const report = JSON.parse(document.getElementById("numbers").textContent);

/** The element with an id. */
const byId = (id) => document.getElementById(id);

/** A new element with properties and children; text is never read as markup. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Whether a method is a kind of LoRun. */
const isLorun = (method) => method.startsWith("lorun");

/** Functions to call when another section is chosen, and when the colours change. */
const onSection = [];
const onTheme = [];
