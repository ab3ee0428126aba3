// Which nodes of a tree are shown. What was left behind is folded up, but for what the search turned back from.

const LIKELY = 3; // unvisited children shown where the search still is

// A tree of entries { id, node, hidden, opened, children }: a node, or the stub that stands for its hidden siblings.
export function visibleTree(replay, opened) {
  const onPath = new Set(replay.active.path);
  return entry(replay.prompt, false);

  function entry(node, leftBehind) {
    const shown = opened.has(node.id) ? node.children : kept(node, onPath, leftBehind);
    const committed = node.children.some((child) => child.committed);
    const children = shown.map((child) => entry(child, leftBehind || (committed && !child.committed)));
    const hidden = node.children.length - shown.length;
    if (hidden || opened.has(node.id)) children.push(stub(node, hidden));
    return { id: `node-${node.id}`, node, leftBehind, children };
  }
}

// The stub closes again what was opened.
function stub(node, hidden) {
  return { id: `more-${node.id}`, node, stub: true, hidden, opened: !hidden, children: [] };
}

function kept(node, onPath, leftBehind) {
  const { children } = node;
  if (leftBehind) return children.filter((child) => child.rewoundBelow || onPath.has(child));
  if (children.some((child) => child.committed)) {
    return children.filter((child) => child.committed || child.rewoundBelow || onPath.has(child));
  }
  const likely = new Set(children.toSorted((a, b) => b.prior - a.prior).slice(0, LIKELY));
  return children.filter((child) => child.seen || onPath.has(child) || likely.has(child));
}
