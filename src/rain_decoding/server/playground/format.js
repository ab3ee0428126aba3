// How values are written: signs always, so that good and bad differ by more than colour.

export function signed(value) {
  if (value === null || value === undefined) return "unscored";
  const sign = value < 0 ? "−" : "+";
  return sign + Math.abs(value).toFixed(2);
}

export function share(value) {
  return value < 0.005 && value > 0 ? "<0.01" : value.toFixed(2);
}

export function count(value) {
  return Number.isInteger(value) ? value.toLocaleString("en") : value.toFixed(1);
}

export function times(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// A token set as one line: line ends visible, never empty.
export function oneLine(text) {
  const line = text.replaceAll("\n", "⏎").trim();
  if (line) return line;
  return text ? "␣" : "(end of text)";
}

export function quoted(text) {
  return `“${oneLine(text)}”`;
}

// The verdict of a score or value in [-1, 1], as a class name.
export function verdict(value) {
  if (value === null || value === undefined) return "unscored";
  return value < 0 ? "bad" : "good";
}
