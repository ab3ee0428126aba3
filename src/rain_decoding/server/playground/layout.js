// Where entries are drawn: in columns from left to right, or, on a narrow screen, as an outline.

import { oneLine } from "./format.js";

// Boxes { entry, parent, level, x, y, width, height } in the order of reading, and the size of all.
// In each column a box stands as high as those above it and its own children allow.
export function columnLayout(root, { width, gapX, gapY }) {
  const boxes = [];
  const free = []; // per column, where the next box may stand

  function place(entry, parent, level) {
    const x = level * (width + gapX);
    const box = { entry, parent, level, x, y: 0, width, height: heightOf(entry, width) };
    const first = boxes.push(box);
    const below = entry.children.map((child) => place(child, box, level + 1));
    const wanted = below.length ? besideChildren(below, box.height) : 0;
    box.y = Math.max(wanted, free[level] ?? 0);
    moveDown(boxes.slice(first), box.y - wanted);
    free[level] = bottom(box);
    return box;
  }

  function moveDown(moved, distance) {
    for (const box of distance ? moved : []) {
      box.y += distance;
      free[box.level] = Math.max(free[box.level], bottom(box));
    }
  }

  function bottom(box) {
    return box.y + box.height + gapY;
  }

  place(root, null, 0);
  return { boxes, width: free.length * (width + gapX) - gapX, height: Math.max(...free) - gapY };
}

// A committed child stands level with its parent, so that the answer reads as a straight line.
function besideChildren(boxes, height) {
  const cards = boxes.filter((box) => !box.entry.stub);
  const straight = cards.find((box) => box.entry.node.committed);
  if (straight) return straight.y;
  const [first, last] = cards.length ? [cards[0], cards.at(-1)] : [boxes[0], boxes[0]];
  return (first.y + last.y + last.height - height) / 2;
}

// The committed path runs straight down; what was tried in place of a node stands above it, indented.
export function outlineLayout(root, { width, indent, gapY }) {
  const boxes = [];
  let next = 0;

  function place(entry, parent, level, column) {
    const x = Math.min(column, DEEPEST) * indent;
    const own = Math.max(0, width - x);
    const box = { entry, parent, level, x, y: next, width: own, height: heightOf(entry, own) };
    boxes.push(box);
    next += box.height + gapY;
    const committed = entry.children.filter((child) => !child.stub && child.node.committed);
    const others = entry.children.filter((child) => !committed.includes(child));
    for (const child of others) place(child, box, level + 1, column + 1);
    for (const child of committed) place(child, box, level + 1, column);
  }

  place(root, null, 0, 0);
  return { boxes, width, height: Math.max(0, next - gapY) };
}

// The line from a box to its parent.
export function edge(box) {
  const [start, end] = ends(box);
  if (box.x >= box.parent.x + box.parent.width) {
    const bend = (start.x + end.x) / 2;
    return `M${start.x} ${start.y}C${bend} ${start.y} ${bend} ${end.y} ${end.x} ${end.y}`;
  }
  return `M${start.x} ${start.y}C${start.x} ${start.y} ${start.x} ${end.y} ${end.x} ${end.y}`;
}

// The line back from a box to another that is above it, for a rewind.
export function wayBack(box, target) {
  const [parentEnd, childEnd] = box.parent ? ends(box) : [null, { x: box.x, y: box.y }];
  let line = `M${childEnd.x} ${childEnd.y}`;
  for (let at = box; at !== target && at.parent; at = at.parent) {
    const [start, end] = at === box ? [parentEnd, childEnd] : ends(at);
    const aside = at.x >= at.parent.x + at.parent.width;
    const bend = aside ? (start.x + end.x) / 2 : start.x;
    line += `L${end.x} ${end.y}C${bend} ${end.y} ${bend} ${start.y} ${start.x} ${start.y}`;
  }
  return line;
}

const HEIGHTS = { stub: 26, oneLine: 54, twoLines: 74 };
const LETTER = 7; // pixels, on average
const BADGED = 80; // pixels that a badge and the borders take
const DEEPEST = 5; // columns of an outline's indentation

// Texts have one line or two; how many is estimated, so that nothing need be drawn to know it.
function heightOf({ stub, node }, width) {
  if (stub) return HEIGHTS.stub;
  const room = width - (node.judgement ? BADGED : 24);
  return oneLine(node.text).length * LETTER > room ? HEIGHTS.twoLines : HEIGHTS.oneLine;
}

function ends(box) {
  const { parent } = box;
  const end = { x: box.x, y: box.y + box.height / 2 };
  if (box.x >= parent.x + parent.width) {
    return [{ x: parent.x + parent.width, y: parent.y + parent.height / 2 }, end];
  }
  if (box.x === parent.x) return [{ x: parent.x + 9, y: parent.y + parent.height }, { x: box.x + 9, y: box.y }];
  return [{ x: parent.x + 9, y: parent.y + parent.height }, end];
}
