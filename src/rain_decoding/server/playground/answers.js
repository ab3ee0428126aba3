// The answers side by side, and what each of them cost.

import { byId, element } from "./dom.js";
import { count, signed, verdict } from "./format.js";

// One pane of text: what is released, behind it what is only tried, and what the search turns back from.
export class Answer {
  constructor(name) {
    this.pane = byId(name);
    this.released = element("span", { class: "released" });
    this.tried = element("span", { class: "tried" });
    this.turnedBack = element("del", { class: "tried" });
    this.pane.replaceChildren(this.released, this.tried, this.turnedBack);
  }

  show(released, tried = "", turnedBack = "") {
    this.released.textContent = released.trimStart();
    this.tried.textContent = released.trim() ? tried : tried.trimStart();
    this.turnedBack.textContent = turnedBack;
  }

  fail(message) {
    this.pane.replaceChildren(element("span", { class: "failure", text: message }));
  }
}

// What the search released so far, and what it tries behind that. `streamed` may be ahead of the replay.
export function showReplay(answer, replay, streamed) {
  const { active, root, end, rewound, released } = replay;
  const behind = active.path.slice(root.path.length);
  if (streamed.trim().length > released.trim().length) return answer.show(streamed);
  if (end || !behind.length) return answer.show(released);
  const text = behind.slice(0, -1).map((node) => node.text).join("");
  const last = active.text + active.rollout;
  if (rewound) answer.show(released, text, last);
  else answer.show(released, text + last);
}

const COSTS = [
  ["completion_tokens", "tokens answered", count],
  ["search_tokens", "tokens forwarded", count],
  ["forward_passes", "forward passes", count],
  ["simulations", "simulations", count],
  ["rewinds", "rewinds", count],
  ["seconds", "seconds", (value) => value.toFixed(2)],
];

// A table of what both sides cost; a side that is not known has dashes, one left out has no column.
// `apart`: whether the server tells what each side takes alone.
export function showCosts(table, sides, apart) {
  const head = element("tr", {}, element("td"));
  for (const { title } of sides) head.append(element("th", { scope: "col", text: title }));
  const rows = [scoreRow(sides)];
  const beside = sides.length > 1 && apart;
  let unsaid = false;
  for (const [key, name, write] of COSTS) {
    const cells = sides.map(({ usage }) => {
      const spared = beside && key === "search_tokens" ? usage?.cached_tokens : 0;
      if (usage?.[key] != null) return element("td", { text: write(usage[key] + spared) });
      unsaid ||= Boolean(usage) && key in usage;
      return element("td", { text: "–", title: "The model’s server does not say." });
    });
    rows.push(row(name, cells));
  }
  const notes = [];
  if (beside) notes.push("Tokens are those of each side alone; what both need was computed once, and who came first waited for it.");
  else if (sides.length > 1) notes.push("Both sides share what was computed of the prompt; who comes first pays for it.");
  if (unsaid) notes.push("–: the model’s server does not say.");
  const caption = element("caption", { class: "note", text: notes.join(" ") });
  table.replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...rows));
  table.hidden = sides.every(({ usage }) => !usage);
}

function scoreRow(sides) {
  const cells = sides.map(({ usage }) => {
    if (usage?.score == null) return element("td", { text: "–" });
    const badge = element("span", { class: `badge ${verdict(usage.score)}`, text: signed(usage.score) });
    return element("td", {}, badge, ...(usage.flagged ? [element("small", { text: " flagged" })] : []));
  });
  return row("judged", cells);
}

function row(name, cells) {
  return element("tr", {}, element("th", { scope: "row", text: name }), ...cells);
}
