// The page: runs a prompt by plain decoding and by RAIN, or shows a trace.

import { Answer, showCosts, showReplay } from "./answers.js";
import { RequestError, fetchConfig, streamChat } from "./client.js";
import { byId } from "./dom.js";
import { acceptFiles, download } from "./files.js";
import { PromptForm } from "./form.js";
import { finding } from "./finding.js";
import { signed, times } from "./format.js";
import { SearchPanel } from "./search.js";
import { offerTheme } from "./theme.js";
import { isComplete, readTrace } from "./tracefile.js";

const form = new PromptForm();
const panel = new SearchPanel(showState);
let rain = new Answer("rain-text");
let streamed = ""; // text of a run that has arrived
let usages = {};
let shown = "trace"; // what the page shows: a "run" of its own or a "trace" from a file
let running = null; // aborts the run

function showState(replay, live) {
  showReplay(rain, replay, live ? streamed : "");
  byId("download").disabled = !isComplete(replay.events);
}

function say(message) {
  byId("status").textContent = message;
}

function fail(message) {
  byId("alert").textContent = message;
  byId("alert").hidden = !message;
}

// A trace

function openTrace(events) {
  const { messages, model, criterion } = events[0];
  const end = events.at(-1);
  running?.abort();
  fail("");
  shown = "trace";
  showSides(false);
  rain = new Answer("rain-text");
  byId("question").textContent = messages.at(-1).content;
  byId("rain-title").textContent = `RAIN: ${model}, ${criterion}`;
  panel.open(events);
  usages = { rain: { ...end.usage, score: end.score, flagged: end.flagged } };
  byId("finding").textContent = finding(usages, {});
  showUsage();
  say(`Opened a trace of ${times(events.length, "event")}.`);
}

function showSides(plain) {
  byId("answers").hidden = false;
  byId("plain-side").hidden = !plain;
  byId("answers").classList.toggle("single", !plain);
}

function showUsage() {
  const sides = [{ title: "RAIN", usage: usages.rain }];
  if (shown === "run" && form.mayPlain) sides.unshift({ title: "Plain", usage: usages.plain });
  showCosts(byId("costs"), sides, form.countsApart);
}

// A run

async function run() {
  if (running) return running.abort();
  running = new AbortController();
  const { signal } = running;
  begin();
  const done = await Promise.allSettled([runPlain(signal), runRain(signal)]);
  running = null;
  byId("run").textContent = "Run";
  if (shown === "trace") return; // a file was opened meanwhile
  if (form.mayTrace) panel.finished();
  report(done.map(({ reason }) => reason).filter(Boolean));
}

function begin() {
  fail("");
  say("Running.");
  form.fold();
  byId("finding").textContent = "";
  shown = "run";
  usages = {};
  byId("run").textContent = "Stop";
  byId("question").textContent = byId("prompt").value.trim();
  byId("rain-title").textContent = "RAIN";
  showSides(form.mayPlain);
  showUsage();
  rain = new Answer("rain-text");
  streamed = "";
  byId("search").hidden = !form.mayTrace;
  if (form.mayTrace) panel.follow();
}

async function runPlain(signal) {
  if (!form.mayPlain) return;
  const answer = new Answer("plain-text");
  let text = "";
  await stream(form.plainRequest(), signal, "plain", answer, (piece) => answer.show((text += piece)));
}

async function runRain(signal) {
  await stream(form.rainRequest(), signal, "rain", rain, (piece, events) => {
    streamed += piece;
    if (form.mayTrace) panel.add(events);
    else rain.show(streamed);
  });
}

// Hand on a stream's text and events as they arrive, and note what it cost.
async function stream(request, signal, side, answer, onPiece) {
  const began = performance.now();
  try {
    for await (const chunk of streamChat(request, { key: byId("key").value, signal })) {
      onPiece(chunk.choices?.[0]?.delta?.content ?? "", chunk.rain?.events ?? []);
      if (chunk.usage || (chunk.rain && "rewinds" in chunk.rain)) {
        const seconds = (performance.now() - began) / 1000;
        usages[side] = { seconds, ...usages[side], ...chunk.rain, ...chunk.usage };
        showUsage();
      }
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    answer.fail(error.message);
    throw error;
  }
}

function report(errors) {
  const [error] = errors;
  if (error) {
    askForKey(error);
    return fail(error.message);
  }
  byId("finding").textContent = finding(usages, form.judge);
  const score = usages.rain?.score;
  if (usages.rain) say(`Finished: ${times(usages.rain.rewinds ?? 0, "rewind")}, judged ${signed(score)}.`);
  else say("Stopped.");
}

function askForKey(error) {
  if (!(error instanceof RequestError) || error.status !== 401) return;
  byId("key-form").hidden = false;
  byId("key").focus();
}

// Start

async function start() {
  offerTheme();
  acceptFiles(openTrace, fail);
  byId("download").addEventListener("click", () => download(panel.events, "search.jsonl"));
  const embedded = byId("embedded-trace");
  if (embedded) return openTrace(readTrace(embedded.textContent));
  onSubmit("form", run);
  byId("show-rewind").addEventListener("click", () => {
    form.takeDemoPrompt();
    byId("form").requestSubmit();
  });
  onSubmit("key-form", connect);
  await connect();
}

function onSubmit(name, act) {
  byId(name).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

async function connect() {
  try {
    form.offer(await fetchConfig(byId("key").value));
    byId("key-form").hidden = true;
    fail("");
  } catch (error) {
    askForKey(error);
    fail(error.message);
  }
}

start();
