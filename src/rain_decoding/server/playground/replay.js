// The tree that a trace's events build, at any position. The rules are those of rain_decoding/decoding/trace.py.

export class SearchNode {
  constructor(id, parent, text, prior, widened) {
    Object.assign(this, { id, parent, text, prior, widened });
    this.children = [];
    this.visits = 0;
    this.evaluations = 0;
    this.value = 0;
    this.rollout = "";
    this.judgement = null; // the last `judge` event of a text that ended here
    this.selection = null; // the terms q and u when it was last selected
    this.rewinds = 0;
    this.rewoundBelow = false; // whether the search turned back from here or from below
    this.committed = false;
  }

  // Whether the search came here.
  get seen() {
    return this.visits > 0 || this.judgement !== null;
  }

  // From the prompt to this node.
  get path() {
    return this.parent ? [...this.parent.path, this] : [this];
  }

  get score() {
    return this.judgement ? this.judgement.score : null;
  }
}

export class Replay {
  constructor(events) {
    this.events = events; // may grow
    this.#reset();
  }

  // Go to the state after the first `position` events.
  seek(position) {
    if (position < this.position) this.#reset();
    while (this.position < position) {
      const event = this.events[this.position];
      this.rewound = null;
      RULES[event.event]?.(this, event);
      this.position += 1;
    }
  }

  // The event that led here.
  get event() {
    return this.position ? this.events[this.position - 1] : null;
  }

  node(id) {
    const node = this.nodes.get(id);
    if (!node) throw new RangeError(`there is no node ${id}`);
    return node;
  }

  add(parent, child, widened) {
    const node = new SearchNode(child.id, parent, child.text ?? "", child.prior, widened);
    node.kind = child.kind ?? ""; // of the proposal, in place of bad text
    parent.children.push(node);
    this.nodes.set(node.id, node);
  }

  #reset() {
    this.position = 0;
    this.prompt = new SearchNode(0, null, "", 1, false);
    this.prompt.committed = true;
    this.nodes = new Map([[0, this.prompt]]);
    this.start = null;
    this.end = null;
    this.root = this.prompt; // the last committed node
    this.active = this.prompt; // where the search is
    this.rewound = null; // { from, to }, while the event is a rewind
    this.released = "";
    this.simulations = 0;
    this.rewinds = 0;
  }
}

const RULES = {
  start(tree, event) {
    tree.start = event;
    tree.prompt.text = event.messages.at(-1).content;
  },

  expand(tree, event) {
    tree.active = tree.node(event.node);
    for (const child of event.children) tree.add(tree.active, child, false);
  },

  widen(tree, event) {
    tree.active = tree.node(event.node);
    tree.add(tree.active, event.child, true);
  },

  priors(tree, event) {
    const { children } = tree.node(event.node);
    if (children.length !== event.priors.length) throw new RangeError("priors for other children");
    children.forEach((child, index) => (child.prior = event.priors[index]));
  },

  select(tree, event) {
    tree.active = tree.node(event.root);
    for (const step of event.path) {
      tree.active = tree.node(step.node);
      tree.active.selection = step;
    }
  },

  rollout(tree, event) {
    tree.active = tree.node(event.node);
    tree.active.rollout = event.text;
  },

  judge(tree, event) {
    tree.active = tree.node(event.node);
    tree.active.judgement = event;
    tree.simulations += 1;
  },

  backup(tree, event) {
    for (const { id, visits, evaluations, value } of event.nodes) {
      Object.assign(tree.node(id), { visits, evaluations, value });
    }
  },

  critique(tree, event) {
    tree.active = tree.node(event.node);
    tree.active.critique = event.text;
  },

  rewind(tree, event) {
    const from = tree.node(event.node);
    tree.rewound = { from, to: tree.node(event.root) };
    tree.active = from;
    from.rewinds += 1;
    for (const node of from.path) node.rewoundBelow = true;
    tree.rewinds += 1;
  },

  commit(tree, event) {
    const node = tree.node(event.node);
    node.committed = true;
    tree.root = tree.active = node;
    tree.released += event.text ?? node.text;
  },

  end(tree, event) {
    tree.end = event;
    tree.active = tree.prompt; // an overview, from the start
    tree.released = event.text;
  },
};
