// Light or dark: as the system has it, until the reader chooses.

import { byId } from "./dom.js";

const KEY = "rain-theme";

export function offerTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = remembered();

  function show() {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = chosen ?? "";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
    return dark;
  }

  button.addEventListener("click", () => {
    chosen = show() ? "light" : "dark";
    remember(chosen);
    show();
  });
  system.addEventListener("change", show);
  show();
}

// A page from a file may have no storage.
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // it holds until the page is left
  }
}
