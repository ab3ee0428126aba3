// Trace files: one event a line, as `rain generate --trace` writes them.

import { Replay } from "./replay.js";

export class TraceError extends Error {}

const NEEDED = {
  start: ["model", "criterion", "config", "seed", "messages"],
  end: ["text", "finish_reason", "score", "usage"],
};
const BROKEN = "The file is broken or cut off.";

// The events of a file's text. Throws a TraceError that says which line is wrong.
export function readTrace(text) {
  const events = text.replace(/\n$/, "").split("\n").map(readLine);
  for (const [event, kind] of [[events[0], "start"], [events.at(-1), "end"]]) {
    if (event.event !== kind || !NEEDED[kind].every((key) => key in event)) {
      throw new TraceError(`This is not a complete trace: it has no “${kind}” event. ${BROKEN}`);
    }
  }
  checkReplay(events);
  return events;
}

export function writeTrace(events) {
  return events.map((event) => JSON.stringify(event) + "\n").join("");
}

export function isComplete(events) {
  return events.at(-1)?.event === "end";
}

function readLine(line, index) {
  try {
    const event = JSON.parse(line);
    if (typeof event.event === "string") return event;
  } catch {
    // said below
  }
  throw new TraceError(`Line ${index + 1} is not a trace event. ${BROKEN}`);
}

function checkReplay(events) {
  const replay = new Replay(events);
  try {
    replay.seek(events.length);
  } catch (error) {
    throw new TraceError(
      `Line ${replay.position + 1} contradicts the lines before it: ${error.message}. ${BROKEN}`,
    );
  }
}
