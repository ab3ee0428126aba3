// The page: who rates, what is shown, and the keys.

import { byId, element } from "./dom.js";
import { offerTheme } from "./theme.js";
import { Progress, SKIP } from "./progress.js";
import { Sender, request } from "./sender.js";

const place = new URL(location.href);
let progress = null;

offerTheme();
byId("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(byId("name").value, true);
});
byId("undo").addEventListener("click", () => move(() => progress.undo()));
byId("back").addEventListener("click", () => move(() => progress.goTo(progress.index - 1)));
byId("forward").addEventListener("click", () => move(() => progress.goTo(progress.index + 1)));
byId("skip").addEventListener("click", () => rate(progress.asked, SKIP));
document.addEventListener("keydown", pressed);
const named = place.searchParams.get("rater");
if (named) enter(named, false);
else welcome("");

function welcome(name) {
  byId("welcome").hidden = false;
  byId("name").value = name;
  byId("name").focus();
}

// Fetch the rater's tasks. Who has rated nothing yet is first told what is to be seen.
async function enter(name, begun) {
  let found;
  try {
    const response = await request(`/api/tasks?rater=${encodeURIComponent(name)}`);
    found = await response.json();
  } catch (error) {
    welcome(name);
    alertOf(error.message);
    return;
  }
  alertOf(null);
  if (begun || found.tasks.some((task) => task.questions.some((each) => each.value !== null))) begin(found);
  else welcome(found.rater);
}

function begin({ rater, tasks }) {
  place.searchParams.set("rater", rater);
  history.replaceState(null, "", place);
  byId("rater").textContent = rater;
  byId("welcome").hidden = true;
  byId("ways").hidden = false;
  const sender = new Sender((problem) =>
    alertOf(problem && `Not saved yet: ${problem} Trying again; leave this page open.`),
  );
  progress = new Progress(tasks, (task, question, value) =>
    sender.send({ rater, task: task.id, question: question.name, value }),
  );
  move(() => {});
}

function alertOf(text) {
  byId("alert").hidden = !text;
  if (byId("alert").textContent === text) return; // or it would be read out again and again
  byId("alert").textContent = text ?? "";
}

function rate(question, value) {
  move(() => progress.rate(question, value));
}

// Do something that may lead to another task, and show where it led. The focus follows, for who listens to the page.
function move(step) {
  const before = progress.task;
  step();
  show();
  const shown = progress.task ? byId("task") : byId("end");
  if (progress.task !== before || !shown.contains(document.activeElement)) shown.focus({ preventScroll: true });
  if (progress.task !== before) scrollTo(0, 0);
}

function show() {
  const { task, tasks, rated } = progress;
  byId("rating").hidden = !task;
  byId("end").hidden = Boolean(task);
  byId("progress").max = tasks.length;
  byId("progress").value = rated;
  byId("count").textContent = `${rated} of ${tasks.length} rated`;
  byId("status").textContent = byId("count").textContent;
  byId("undo").disabled = !progress.undoable.length;
  byId("back").disabled = !progress.index;
  byId("forward").disabled = !progress.canGoForward;
  byId("skip").disabled = !task;
  if (task) showTask(task);
}

function showTask(task) {
  byId("prompt-title").textContent = task.continues ? "Beginning of a text" : "Prompt";
  byId("prompt").textContent = task.prompt;
  const word = task.continues ? "Continuation" : "Answer";
  const names = task.answers.length > 1 ? [`Left ${word.toLowerCase()}`, `Right ${word.toLowerCase()}`] : [word];
  byId("answers").classList.toggle("two", names.length > 1);
  byId("answers").replaceChildren(
    ...task.answers.map((answer, index) =>
      element("div", {}, element("h2", { text: names[index] }), textOf(answer)),
    ),
  );
  byId("questions").replaceChildren(...task.questions.map(questionOf));
}

function textOf(answer) {
  if (answer.trim()) return element("p", { class: "model-text", text: answer.trim() });
  return element("p", { class: "note", text: "The answer is empty." });
}

// A question with its buttons; the one that keys answer is marked, and says the keys.
function questionOf(question) {
  const asked = question === progress.asked;
  const buttons = Object.entries(question.values).map(([value, label], index) => {
    const button = element("button", { type: "button", "aria-pressed": String(question.value === value) });
    if (asked) button.append(element("kbd", { text: String(index + 1) }), " ");
    button.append(label);
    button.addEventListener("click", () => rate(question, value));
    return button;
  });
  const note = question.value === SKIP ? [element("span", { class: "note", text: "You could not say." })] : [];
  const box = element("fieldset", { class: asked ? "asked" : "" }, element("legend", { text: question.text }));
  box.append(element("div", { class: "ways" }, ...buttons, ...note));
  return box;
}

function pressed(event) {
  const typing = event.target instanceof HTMLInputElement;
  if (!progress || typing || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const ways = { u: "undo", s: "skip", ArrowLeft: "back", ArrowRight: "forward" };
  const way = ways[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  const value = progress.asked && Object.keys(progress.asked.values)[Number(event.key) - 1];
  if (way) byId(way).click();
  else if (value && event.key !== " ") rate(progress.asked, value);
  else return;
  event.preventDefault();
}
