// All that is known of one node: its numbers, the text that was judged, and how.

import { element } from "./dom.js";
import { count, quoted, share, signed, times, verdict } from "./format.js";

export function showNode(panel, node) {
  panel.replaceChildren(heading(node), facts(node), ...judgement(node), ...rollout(node));
}

function heading(node) {
  return element("h3", { text: node.parent ? quoted(node.text) : "The prompt" });
}

function facts(node) {
  const list = element("dl", { class: "facts" });
  if (node.kind) add(list, "proposed as", node.kind);
  if (node.critique) add(list, "critique", node.critique);
  if (node.parent) add(list, "prior p", share(node.prior));
  add(list, "visits n", count(node.visits));
  add(list, "value v", node.visits ? signed(node.value) : "none yet");
  add(list, "evaluations", count(node.evaluations));
  if (node.selection) {
    add(list, "last selected by", `Q ${share(node.selection.q)} + U ${share(node.selection.u)}`);
  }
  if (node.rewinds) add(list, "rewound", times(node.rewinds, "time"));
  return list;
}

function judgement(node) {
  if (!node.judgement) return [];
  const { score, judged, probabilities, problem, remembered } = node.judgement;
  const badge = element("span", { class: `badge ${verdict(score)}`, text: signed(score) });
  const parts = [element("h4", { text: remembered ? "Judged (remembered) " : "Judged " }, badge)];
  if (problem) parts.push(element("p", { class: "problem", text: problem }));
  parts.push(element("pre", { class: "judged", text: judged ?? "" }));
  if (probabilities?.length) parts.push(votes(probabilities));
  return parts;
}

// The probability of the good and the bad label, per order of the options.
function votes(orders) {
  const rows = orders.map(([good, bad], index) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", text: orders.length > 1 ? `order ${index + 1}` : "one order" }),
      element("td", { text: share(good) }),
      element("td", { text: share(bad) }),
    ),
  );
  const head = element(
    "tr",
    {},
    element("th", { scope: "col", text: "probability of" }),
    element("th", { scope: "col", text: "+ good" }),
    element("th", { scope: "col", text: "− bad" }),
  );
  return element("table", { class: "votes" }, element("thead", {}, head), element("tbody", {}, ...rows));
}

function rollout(node) {
  if (!node.rollout) return [];
  return [
    element("h4", { text: "Rolled out, so that the judge sees where it leads" }),
    element("p", { class: "model-text", text: quoted(node.rollout) }),
  ];
}

function add(list, name, value) {
  list.append(element("div", {}, element("dt", { text: name }), element("dd", { text: value })));
}
