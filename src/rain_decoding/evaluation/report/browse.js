"use strict";
// Every text is set as text, never as markup: answers of models are shown as they are.
const samples = JSON.parse(document.getElementById("samples").textContent);
const numbers = JSON.parse(document.getElementById("numbers").textContent);
const family = document.getElementById("family"), differing = document.getElementById("differing");
const decoder = document.getElementById("decoder"), title = document.getElementById("samples-title");
const place = document.getElementById("place"), view = document.getElementById("view");
let chosen = [], at = 0;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// All answers, or those of the chosen decoder beside the reference's.
function shownAnswers(sample) {
  return sample.answers.filter(answer => !decoder.value || [decoder.value, decoder.dataset.reference].includes(answer.decoder));
}

function isChosen(sample) {
  if (family.value && sample.family !== family.value) return false;
  if (decoder.value && !sample.answers.some(answer => answer.decoder === decoder.value)) return false;
  return !differing.checked || new Set(shownAnswers(sample).map(answer => String(answer.good))).size > 1;
}

function select() {
  chosen = samples.filter(isChosen);
  at = 0;
  show();
}

// Show the samples that the address names, as the links in the tables do.
function follow() {
  const [section, query] = location.hash.split("?");
  if (section !== "#samples") return;
  const asked = new URLSearchParams(query);
  family.value = asked.get("family");
  decoder.value = asked.get("decoder");
  differing.checked = false;
  select();
  title.scrollIntoView();
  title.focus();
}

function step(by) {
  if (!chosen.length) return;
  at = (at + by + chosen.length) % chosen.length;
  show();
}

function show() {
  view.replaceChildren();
  place.textContent = chosen.length ? `${at + 1} of ${chosen.length}` : "none";
  if (!chosen.length) return;
  const sample = chosen[at], answers = make("div", "answers");
  view.append(make("p", "soft", `${sample.family}, ${sample.id}`), make("div", "prompt", sample.prompt));
  shownAnswers(sample).forEach(answer => answers.append(card(answer)));
  view.append(make("p", "soft", ""), answers);
}

function card(answer) {
  const box = make("section", `answer d${numbers[answer.decoder] % 8}`);
  box.append(make("h3", "", `${answer.decoder}, seed ${answer.seed}`), make("p", "text", answer.answer));
  for (const [judge, label] of Object.entries(answer.labels)) box.append(labels(judge, label));
  const score = answer.score === null ? "not scored" : `score ${answer.score.toFixed(2)}`;
  box.append(make("p", "soft", `${answer.finish_reason}; by the search's judge: ${score}; ${answer.cost}`));
  if (answer.tree) {
    const details = make("details"), tree = make("div", "tree");
    tree.tabIndex = 0;
    details.append(make("summary", "", "search tree"), tree);
    details.addEventListener("toggle", () => {
      if (!tree.childElementCount) answer.tree.children.forEach(child => tree.append(branch(child)));
    });
    box.append(details);
  }
  return box;
}

function labels(judge, label) {
  const line = make("p", "soft", `${judge}: `);
  for (const [name, value] of Object.entries(label)) {
    if (name === "problem" || name === "note") line.append(make("span", "", `(${value}) `));
    else if (name !== "malformed" && !(value === null && label.malformed)) {
      const text = value === null ? `${name}: unscored ` : value ? `${name} ` : `not ${name} `;
      line.append(make("span", value === null ? "" : value ? "yes" : "no", text));
    } else if (name === "malformed" && value) line.append(make("span", "no", "malformed "));
  }
  return line;
}

function branch(node) {
  const inner = node.children.length || node.hidden;
  const row = make(inner ? "summary" : "div", inner ? "" : "leaf");
  row.append(make("code", node.committed ? "committed" : "", (node.committed ? "✓ " : "") + JSON.stringify(node.text)));
  row.append(make("span", "terms", `  ${node.terms}${node.widened ? "  added by widening" : ""}`));
  if (node.problem) row.append(make("span", "rewound", `  unscored: ${node.problem}`));
  if (node.rewinds) {
    const after = node.rollout ? ` after it went on ${JSON.stringify(node.rollout)}` : "";
    row.append(make("span", "rewound", `  ↩ rewound: judged ${node.score.toFixed(2)}${after}`));
  }
  if (!inner) return row;
  const details = make("details");
  details.open = node.committed;
  details.append(row);
  node.children.forEach(child => details.append(branch(child)));
  if (node.hidden) details.append(make("div", "leaf soft", `${node.hidden} more, not visited or not shown`));
  return details;
}

family.addEventListener("change", select);
decoder.addEventListener("change", select);
differing.addEventListener("change", select);
document.getElementById("before").addEventListener("click", () => step(-1));
document.getElementById("after").addEventListener("click", () => step(1));
document.addEventListener("keydown", event => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const free = !event.target.closest("select, input, .scroll, .tree") && !event.altKey && !event.ctrlKey && !event.metaKey;
  if (move && free) step(move);
});
addEventListener("hashchange", follow);
document.addEventListener("click", event => {
  const link = event.target.closest("a");
  if (link && link.hash === location.hash) follow();  // a second click changes no address
});
select();
follow();
