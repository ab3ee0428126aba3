// Elements without markup: text is only ever put in as text.

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svgElement(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

export function prefersStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
