// The search as a tree on the page. Only what is in view has elements, so that large trees stay smooth.

import { fillCard, makeCard } from "./card.js";
import { element, prefersStill, svgElement } from "./dom.js";
import { columnLayout, edge, outlineLayout, wayBack } from "./layout.js";
import { visibleTree } from "./visible.js";

const NARROW = 640; // pixels below which the tree is an outline
const MARGIN = 200; // pixels around the view that are drawn, too
const PADDING = 16;
const SENTENCES = { width: 264, gapX: 40, gapY: 10 };
const TOKENS = { width: 208, gapX: 36, gapY: 8 };
const OUTLINE = { indent: 20, gapY: 8 };

export class TreeDrawing {
  // `frame` scrolls and has the role of a tree; `onSelect(node)` hears what the reader chose.
  constructor(frame, onSelect) {
    this.frame = frame;
    this.onSelect = onSelect;
    this.tallest = 0;
    this.opened = new Set(); // ids of nodes whose hidden children the reader wants to see
    this.cards = new Map();
    this.edges = new Map();
    this.edgeLayer = svgElement("g");
    this.wayBack = svgElement("path", { class: "way-back", pathLength: 1 });
    this.svg = svgElement("svg", { "aria-hidden": "true" }, this.edgeLayer, this.wayBack);
    this.canvas = element("div", { class: "canvas", role: "presentation" }, this.svg);
    frame.replaceChildren(this.canvas);
    frame.addEventListener("scroll", () => this.#drawSoon());
    frame.addEventListener("click", (event) => this.#clicked(event));
    frame.addEventListener("keydown", (event) => this.#pressed(event));
    new ResizeObserver(() => this.#resized()).observe(frame);
  }

  // Forget what the reader opened: another search follows.
  reset() {
    this.opened.clear();
    this.tallest = 0;
    this.frame.scrollTo(0, 0);
  }

  // Draw the replay's state with a node selected.
  follow(replay, node) {
    this.selected = `node-${node.id}`;
    this.show(replay);
    this.#reveal(prefersStill() ? "auto" : "smooth");
  }

  show(replay) {
    this.replay = replay;
    const root = visibleTree(replay, this.opened);
    const width = Math.max(0, this.frame.clientWidth - 2 * PADDING); // 0 while the page is not laid out
    const columns = replay.start?.config.strategy === "paper" ? TOKENS : SENTENCES;
    const layout =
      width < NARROW ? outlineLayout(root, { ...OUTLINE, width }) : columnLayout(root, columns);
    this.boxes = new Map(layout.boxes.map((box) => [box.entry.id, box]));
    if (!this.boxes.has(this.selected)) this.selected = root.id;
    this.#resize(layout);
    this.onPath = new Set(replay.active.path.map((node) => `node-${node.id}`));
    this.#drawWayBack(replay.rewound);
    this.#draw();
  }

  #resized() {
    if (!this.replay) return;
    this.show(this.replay);
    this.#reveal("auto");
  }

  // The frame grows with the tree, as far as its style allows, and does not shrink again.
  #resize({ width, height }) {
    for (const [name, size] of [["width", width], ["height", height]]) {
      this.canvas.style[name] = `${size}px`;
      this.svg.setAttribute(name, size);
    }
    this.tallest = Math.max(this.tallest, height + 2 * PADDING);
    this.frame.style.setProperty("--needed", `${this.tallest}px`);
  }

  #drawSoon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.replay) this.#draw();
    });
  }

  #draw() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.frame;
    const view = {
      left: scrollLeft - MARGIN,
      right: scrollLeft + clientWidth + MARGIN,
      top: scrollTop - MARGIN,
      bottom: scrollTop + clientHeight + MARGIN,
    };
    const boxes = [...this.boxes.values()];
    const cards = boxes.filter((box) => inside(box, view) || box.entry.id === this.selected);
    const edges = boxes.filter((box) => box.parent && inside(around(box, box.parent), view));
    sync(this.cards, cards, this.canvas, makeCard, (card, box) => this.#place(card, box));
    sync(this.edges, edges, this.edgeLayer, makeEdge, (line, box) => this.#trace(line, box));
    this.frame.setAttribute("aria-activedescendant", this.selected);
  }

  #place(card, box) {
    const { id, stub } = box.entry;
    const marks = [];
    if (this.onPath.has(id)) marks.push("on-path");
    if (id === this.selected) marks.push("selected");
    if (!stub && this.replay.rewound?.from === box.entry.node) marks.push("turned-back");
    fillCard(card, box, marks, id === this.selected);
    card.style.transform = `translate(${box.x}px, ${box.y}px)`;
    card.style.width = stub ? "" : `${box.width}px`;
    card.style.height = `${box.height}px`;
  }

  #trace(line, box) {
    const { entry } = box;
    const classes = ["edge"];
    if (!entry.stub && entry.node.committed) classes.push("committed");
    else if (this.onPath.has(entry.id)) classes.push("on-path");
    line.setAttribute("class", classes.join(" "));
    line.setAttribute("d", edge(box));
  }

  #drawWayBack(rewound) {
    const from = rewound && this.boxes.get(`node-${rewound.from.id}`);
    const to = rewound && this.boxes.get(`node-${rewound.to.id}`);
    this.wayBack.classList.remove("runs");
    this.wayBack.setAttribute("d", from && to ? wayBack(from, to) : "");
    if (!rewound) return;
    this.wayBack.getBoundingClientRect(); // lets the animation start anew
    this.wayBack.classList.add("runs");
  }

  // Scroll so that the selected card is in view.
  #reveal(behavior) {
    const box = this.boxes.get(this.selected);
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.frame;
    const left = nearest(scrollLeft, clientWidth, box.x, box.width);
    const top = nearest(scrollTop, clientHeight, box.y, box.height);
    if (left !== scrollLeft || top !== scrollTop) this.frame.scrollTo({ left, top, behavior });
  }

  #select(id) {
    this.onSelect(this.boxes.get(id).entry.node);
    this.selected = id;
    this.show(this.replay);
    this.#reveal("auto");
  }

  #clicked(event) {
    const card = event.target.closest(".card");
    if (!card) return;
    this.#select(card.id);
    if (this.boxes.get(card.id).entry.stub) this.#toggle(this.boxes.get(card.id).entry);
  }

  #toggle({ id, node }) {
    if (!this.opened.delete(node.id)) this.opened.add(node.id);
    this.show(this.replay);
    if (this.opened.has(node.id)) this.#select(id);
    else this.#select(`node-${node.id}`);
  }

  #pressed(event) {
    const order = [...this.boxes.keys()];
    const at = order.indexOf(this.selected);
    const box = this.boxes.get(this.selected);
    if (event.ctrlKey || event.metaKey || event.altKey || !box) return;
    const goals = {
      ArrowDown: () => order[at + 1],
      ArrowUp: () => order[at - 1],
      ArrowRight: () => box.entry.children[0]?.id,
      ArrowLeft: () => box.parent?.entry.id,
      Home: () => order[0],
      End: () => order.at(-1),
    };
    if (event.key === "Enter" || event.key === " ") {
      const stub = box.entry.stub ? box.entry : box.entry.children.find((child) => child.stub);
      if (stub) this.#toggle(stub);
    } else if (event.key in goals) {
      const goal = goals[event.key]();
      if (goal) this.#select(goal);
    } else {
      return;
    }
    event.preventDefault();
  }
}

// Make the elements of a layer those of the boxes: keep, add, remove.
function sync(elements, boxes, layer, make, update) {
  const wanted = new Set(boxes.map((box) => box.entry.id));
  for (const [id, made] of elements) {
    if (!wanted.has(id)) {
      made.remove();
      elements.delete(id);
    }
  }
  for (const box of boxes) {
    let made = elements.get(box.entry.id);
    if (!made) {
      made = make(box.entry);
      elements.set(box.entry.id, made);
      layer.append(made);
    }
    update(made, box);
  }
}

function makeEdge() {
  return svgElement("path");
}

function inside(box, view) {
  const beside = box.x + box.width < view.left || box.x > view.right;
  return !beside && box.y + box.height >= view.top && box.y <= view.bottom;
}

function around(a, b) {
  const [x, y] = [Math.min(a.x, b.x), Math.min(a.y, b.y)];
  const right = Math.max(a.x + a.width, b.x + b.width);
  const bottom = Math.max(a.y + a.height, b.y + b.height);
  return { x, y, width: right - x, height: bottom - y };
}

// The scroll position nearest to the present one that shows a stretch of the canvas.
function nearest(scroll, size, start, length) {
  const lowest = start + length + 3 * PADDING - size;
  return Math.max(0, Math.min(Math.max(scroll, lowest), start - PADDING));
}
