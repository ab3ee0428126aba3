// The panel that shows a search: tree, scrubber, and the node that is looked at.

import { caption } from "./caption.js";
import { byId } from "./dom.js";
import { TreeDrawing } from "./drawing.js";
import { count, times } from "./format.js";
import { showNode } from "./inspector.js";
import { drawMarks } from "./marks.js";
import { Player } from "./player.js";
import { Replay } from "./replay.js";

export class SearchPanel {
  // `onChange(replay, live)` hears of every state that is shown.
  constructor(onChange) {
    this.onChange = onChange;
    this.drawing = new TreeDrawing(byId("tree"), (node) => this.#look(node));
    this.player = new Player(new Replay([]), () => this.#changed());
    this.#connect();
  }

  get events() {
    return this.player.replay.events;
  }

  // Show a finished search, at its end.
  open(events) {
    this.#load(events);
    this.player.seek(events.length);
  }

  // Show a search that begins, and keep up with it.
  follow() {
    this.#load([]);
    this.player.follow();
  }

  add(events) {
    this.events.push(...events);
    drawMarks(byId("marks"), this.events);
    this.player.grown();
  }

  finished() {
    this.player.finished();
  }

  #load(events) {
    byId("search").hidden = false;
    this.drawing.reset();
    this.player.load(new Replay(events));
    drawMarks(byId("marks"), events);
  }

  #connect() {
    const { player } = this;
    byId("play").addEventListener("click", () => player.toggle());
    byId("back").addEventListener("click", () => player.seek(player.position - 1));
    byId("forward").addEventListener("click", () => player.seek(player.position + 1));
    byId("next-rewind").addEventListener("click", () => player.nextRewind());
    byId("scrubber").addEventListener("input", (event) => player.seek(Number(event.target.value)));
    byId("speed").addEventListener("change", (event) => (player.speed = Number(event.target.value)));
  }

  // What the reader selects stays in view: the search waits.
  #look(node) {
    if (this.player.playing) this.player.pause();
    showNode(byId("inspector"), node);
  }

  #changed() {
    const { replay, playing, live, position, length } = this.player;
    const said = caption(replay);
    const scrubber = byId("scrubber");
    scrubber.max = length;
    scrubber.value = position;
    scrubber.setAttribute("aria-valuetext", `event ${position} of ${length}: ${said}`);
    byId("caption").textContent = said;
    byId("position").textContent = `${count(position)} / ${count(length)}`;
    byId("counts").textContent = `${times(replay.simulations, "simulation")}, ${times(replay.rewinds, "rewind")}`;
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("next-rewind").disabled = !this.events.some((event) => event.event === "rewind");
    const looked = (replay.end && firstRewound(replay.prompt)) || replay.active;
    this.drawing.follow(replay, looked);
    showNode(byId("inspector"), looked);
    this.onChange(replay, live);
  }
}

// What the search turned back from first: that is what there is to see.
function firstRewound(node) {
  if (node.rewinds && node.parent) return node;
  for (const child of node.children) {
    const found = child.rewinds || child.rewoundBelow ? firstRewound(child) : null;
    if (found) return found;
  }
  return null;
}
