// Marks on the scrubber: where the search rewound (below) and committed (above).

import { svgElement } from "./dom.js";

export function drawMarks(svg, events) {
  svg.setAttribute("viewBox", `0 0 ${Math.max(1, events.length)} 10`);
  svg.replaceChildren(
    svgElement("path", { class: "mark commit", d: ticks(events, "commit", 0) }),
    svgElement("path", { class: "mark rewind", d: ticks(events, "rewind", 5.5) }),
  );
}

function ticks(events, kind, top) {
  return events
    .map((event, index) => (event.event === kind ? `M${index + 1} ${top}v4.5` : ""))
    .join("");
}
