// Numbers as people read them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ROUGH = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** 1 worker, 2 workers. */
export function counted(number, noun) {
  return `${WHOLE.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function whole(number) {
  return WHOLE.format(number);
}

export function rough(number) {
  return number >= 1000 ? WHOLE.format(number) : ROUGH.format(number);
}

/** A time in the unit that fits it. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${ROUGH.format(1000 * seconds)} ms`;
  if (seconds < 120) return `${ROUGH.format(seconds)} s`;
  return `${ROUGH.format(seconds / 60)} min`;
}

/** What a service says in the middle of a line, as a sentence. */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
