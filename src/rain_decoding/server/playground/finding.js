// What came out of a run, in a sentence or two.

import { signed, times } from "./format.js";

const NEAR_ZERO = 0.2; // scores this close to 0 say nothing

export function finding({ plain, rain }, judge) {
  if (!rain) return "";
  const said = [turnedBack(rain)];
  if (plain?.score != null && rain.score != null)
    said.push(`Plain decoding\u2019s answer is judged ${signed(plain.score)}, RAIN\u2019s ${signed(rain.score)}.`);
  if (rain.fallback) said.push(`What was found was not judged good: ${rain.fallback} in its place.`);
  else if (rain.flagged && rain.finish_reason !== "cancelled") said.push("Nothing that it found is judged good, so the answer is flagged.");
  if (rain.score != null && Math.abs(rain.score) < NEAR_ZERO) said.push("A score near 0: the judge cannot tell.");
  if (rain.flagged && judge.proven === false && !judge.doubt)
    said.push("Nobody has shown yet that this judge beats a coin: rain calibrate finds out.");
  return said.join(" ");
}

function turnedBack({ rewinds }) {
  if (rewinds == null) return "";
  const many = ["nothing", "once", "twice"][rewinds] ?? times(rewinds, "time");
  return rewinds ? `RAIN turned back ${many}.` : "RAIN found nothing to turn back from.";
}
