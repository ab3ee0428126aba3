// One node of the tree as an element, and what a screen reader says of it.

import { element } from "./dom.js";
import { count, oneLine, quoted, share, signed, times, verdict } from "./format.js";

export function makeCard(entry) {
  return element("div", { id: entry.id, role: "treeitem", class: "card" });
}

// Bring the element up to date; `marks` are further classes.
export function fillCard(card, box, marks, selected) {
  const { entry, level } = box;
  const siblings = box.parent ? box.parent.entry.children : [entry];
  card.className = ["card", ...(entry.stub ? ["stub"] : nodeClasses(entry)), ...marks].join(" ");
  card.setAttribute("aria-level", level + 1);
  card.setAttribute("aria-posinset", siblings.indexOf(entry) + 1);
  card.setAttribute("aria-setsize", siblings.length);
  card.setAttribute("aria-selected", selected);
  card.setAttribute("aria-label", entry.stub ? stubText(entry) : spoken(entry.node));
  if (entry.stub) card.replaceChildren(stubText(entry));
  else card.replaceChildren(...nodeParts(entry.node));
}

function stubText({ hidden, opened }) {
  return opened ? "− fold up" : `+ ${count(hidden)} more`;
}

function nodeClasses({ node, leftBehind }) {
  const classes = [verdict(node.judgement ? node.score : node.visits ? node.value : null)];
  if (!node.seen && node.parent) classes.push("unseen");
  if (node.committed) classes.push("committed");
  if (leftBehind) classes.push("left-behind");
  return classes;
}

function nodeParts(node) {
  const head = element("div", { class: "card-head" });
  head.append(element("div", { class: "card-text", text: oneLine(node.text) }));
  if (node.judgement) {
    head.append(element("span", { class: `badge ${verdict(node.score)}`, text: signed(node.score) }));
  }
  const facts = element("div", { class: "card-facts" });
  if (!node.parent) facts.append(fact("", "prompt"));
  else facts.append(fact("p", share(node.prior)));
  if (node.visits) facts.append(fact("n", count(node.visits)), fact("v", signed(node.value)));
  facts.append(element("span", { class: "spring" }));
  if (node.kind) facts.append(element("span", { class: "tag", text: node.kind }));
  if (node.widened) facts.append(element("span", { class: "tag", text: "added" }));
  if (node.rewinds) facts.append(element("span", { class: "tag bad", text: rewindText(node) }));
  if (node.committed && node.parent) facts.append(element("span", { class: "tick", text: "✓" }));
  return [head, facts];
}

function fact(name, value) {
  return element("span", { class: "fact" }, element("i", { text: name }), ` ${value}`);
}

function rewindText(node) {
  return node.rewinds > 1 ? `↩ ${node.rewinds}` : "↩";
}

function spoken(node) {
  const parts = [node.parent ? quoted(node.text) : `Prompt: ${node.text}`];
  if (node.parent) parts.push(`prior ${share(node.prior)}`);
  if (node.kind) parts.push(node.kind);
  parts.push(node.visits ? `${times(node.visits, "visit")}, value ${signed(node.value)}` : "not visited");
  if (node.judgement) parts.push(node.score === null ? "unscored" : `judged ${signed(node.score)}`);
  if (node.rewinds) parts.push(`rewound ${times(node.rewinds, "time")}`);
  if (node.committed && node.parent) parts.push("committed");
  return parts.join(", ");
}
