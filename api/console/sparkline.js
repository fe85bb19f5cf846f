// Small lines of the last values.

import { drawn } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 28;
const EDGE = 2;

/** A line of values, the newest at its right end; what was not known leaves a gap. `format` writes one of them. */
export function sparkline(values, fewest, name, format) {
  const length = Math.max(fewest, values.length);
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 0);
  const told = known.length
    ? `${name} of late: between ${format(Math.min(...known))} and ${format(most)}`
    : `${name}: nothing yet`;
  const point = (value, index) => {
    const x = (WIDTH * (index + length - values.length)) / (length - 1);
    const y = HEIGHT - EDGE - (most > 0 ? (value / most) * (HEIGHT - 2 * EDGE) : 0);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  };
  return drawn(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told },
    runs(values).map((run) => drawn("polyline", { points: run.map((index) => point(values[index], index)).join(" ") })),
  );
}

/** Indices of the values that are known, those in a row together. */
function runs(values) {
  const found = [[]];
  values.forEach((value, index) => {
    if (value !== null) found.at(-1).push(index);
    else if (found.at(-1).length) found.push([]);
  });
  return found.filter((run) => run.length);
}
