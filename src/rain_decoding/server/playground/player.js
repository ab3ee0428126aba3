// Plays a trace's events: position, speed, and, while a search is running, keeping up with it.

const BEATS = {
  start: 300,
  expand: 450,
  priors: 0,
  widen: 450,
  select: 350,
  rollout: 450,
  judge: 700,
  critique: 900,
  lacking: 0,
  backup: 250,
  rewind: 1200,
  commit: 700,
  end: 0,
}; // milliseconds that an event stays, at speed 1
const KEEP_UP = 1500; // milliseconds divided among the events that a running search is ahead

export class Player {
  // `onChange()` hears of every new position, and of playing and pausing.
  constructor(replay, onChange) {
    this.onChange = onChange;
    this.speed = 1;
    this.load(replay);
  }

  load(replay) {
    this.replay = replay;
    this.running = false; // whether more events are to come
    this.#stop();
  }

  get position() {
    return this.replay.position;
  }

  get length() {
    return this.replay.events.length;
  }

  seek(position) {
    this.#stop();
    this.#go(position);
  }

  play() {
    if (this.position === this.length && !this.running) this.replay.seek(0);
    this.playing = true;
    this.#tick();
  }

  pause() {
    this.#stop();
    this.onChange();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  // Go to the end of the next rewind, the first again after the last.
  nextRewind() {
    const { events } = this.replay;
    const isRewind = (event) => event.event === "rewind";
    const next = events.findIndex((event, index) => index >= this.position && isRewind(event));
    const found = next >= 0 ? next : events.findIndex(isRewind);
    if (found >= 0) this.seek(found + 1);
  }

  // Follow a search that is running: its events arrive in bursts.
  follow() {
    this.running = true;
    this.play();
  }

  // The replay's events have grown.
  grown() {
    if (this.playing && this.waiting) this.#tick();
    else this.onChange();
  }

  // The search runs no more; what is left of it is still played.
  finished() {
    this.running = false;
    this.grown();
  }

  #go(position) {
    this.replay.seek(Math.max(0, Math.min(position, this.length)));
    this.onChange();
  }

  #stop() {
    this.playing = this.live = this.waiting = false;
    clearTimeout(this.timer);
  }

  #tick() {
    clearTimeout(this.timer);
    this.waiting = this.position === this.length;
    if (this.waiting) this.playing = this.live = this.running;
    if (this.waiting) return this.onChange();
    this.#go(this.position + 1);
    this.timer = setTimeout(() => this.#tick(), this.#delay());
  }

  #delay() {
    const beat = (BEATS[this.replay.event.event] ?? 0) / this.speed;
    const backlog = this.length - this.position;
    return this.live ? Math.min(beat, KEEP_UP / (backlog + 1)) : beat;
  }
}
