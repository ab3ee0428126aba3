// What an event says, in one sentence.

import { quoted, signed, times } from "./format.js";

export function caption(replay) {
  const { event } = replay;
  if (!event) return "The prompt, before the search began.";
  return SAYINGS[event.event]?.(event, replay) ?? "";
}

const place = (node) => (node.parent ? quoted(node.text) : "the prompt");

const how = (kind) => (kind ? `Proposed (${kind})` : "Decoded");

const SAYINGS = {
  start: (event) => `${event.model} searches, judging by ${event.criterion}.`,
  expand: (event, { active }) =>
    event.children.length === 1
      ? `${how(event.children[0].kind)} ${quoted(event.children[0].text ?? "")}.`
      : `Proposed ${times(event.children.length, "token set")} after ${place(active)}.`,
  widen: (event, { active }) => `All were alike and bad: added one more after ${place(active)}.`,
  priors: () => "Evened out the priors of the new root.",
  select: (event, { active }) => `Selected ${place(active)}, the largest Q + U on the way.`,
  rollout: (event) => (event.text ? `Rolled out ${quoted(event.text)}.` : "Nothing to roll out."),
  judge: (event, { active }) =>
    event.score === null
      ? `Could not judge ${place(active)}: ${event.problem}`
      : `Judged ${place(active)}: ${signed(event.score)}.`,
  backup: (event) =>
    `Credited ${signed(event.score)} to ${times(event.nodes.length, "node")} on the way up.`,
  critique: (event) => `A critic says: ${quoted(event.text)}. It is no part of the answer.`,
  lacking: (event) => `Nothing to propose as ${event.purpose}: ${event.problem}.`,
  rewind: (event, { rewound }) =>
    `Rewound from ${place(rewound.from)} to ${place(rewound.to)}: judged ${signed(event.score)}.`,
  commit: (event, { active }) => `Committed ${place(active)}.`,
  end: (event) => `Finished (${event.finish_reason}), the answer judged ${signed(event.score)}.`,
};
