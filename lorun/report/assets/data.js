// The numbers of the page, and what every script needs.
"use strict";

document.documentElement.classList.add("scripted");

const report = JSON.parse(document.getElementById("numbers").textContent);

/** The element with an id. */
const byId = (id) => document.getElementById(id);

/** A new element with properties and children; a text becomes a text, never markup. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Whether a method is LoRun, in whichever form. */
const isLorun = (method) => method.startsWith("lorun");

/** What is called when another section is chosen, and when the colours change. */
const onSection = [];
const onTheme = [];
