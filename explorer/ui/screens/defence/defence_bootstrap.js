// Intervals by resampling, as `explorer/defence` makes them: pairs are drawn again with replacement, so that the counts of
// caught, missed, lost and spared pairs are multinomial. Pure, and the same at every call.

import { grade } from './defence_maths.js';

const DRAWS = 1000;
const SEED = 20240607;
const LEVEL = 0.95;

// Uniform numbers in (0, 1) from a seed (mulberry32, public domain).
function uniforms(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
}

// Stirling's series for ln n!.
function logFactorial(n) {
  if (n < 2) return 0;
  if (n < 10) return Math.log(Array.from({ length: n }, (_, at) => at + 1).reduce((product, factor) => product * factor));
  return n * Math.log(n) - n + 0.5 * Math.log(2 * Math.PI * n) + 1 / (12 * n) - 1 / (360 * n ** 3);
}

// A binomial number by inversion from the mode outwards, exact.
export function binomial(n, p, uniform) {
  if (n === 0 || p <= 0) return 0;
  if (p >= 1) return n;
  const mode = Math.floor((n + 1) * p);
  const log = logFactorial(n) - logFactorial(mode) - logFactorial(n - mode) + mode * Math.log(p) + (n - mode) * Math.log1p(-p);
  const odds = p / (1 - p);
  let left = uniform();
  let [low, high] = [mode, mode];
  let [below, above] = [Math.exp(log), Math.exp(log)];
  left -= below;
  while (left > 0 && (low > 0 || high < n)) {
    if (high < n) {
      above *= ((n - high) / (high + 1)) * odds;
      high += 1;
      left -= above;
      if (left <= 0) return high;
    }
    if (low > 0) {
      below *= low / ((n - low + 1) * odds);
      low -= 1;
      left -= below;
      if (left <= 0) return low;
    }
  }
  return mode;
}

// The middle 95 % of those of `values` that are defined; null where none is.
function middle(values) {
  const sorted = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  if (!sorted.length) return null;
  const at = (quantile) => {
    const place = quantile * (sorted.length - 1);
    const [first, part] = [Math.floor(place), place % 1];
    return sorted[first] + part * ((sorted[first + 1] ?? sorted[first]) - sorted[first]);
  };
  return { low: at((1 - LEVEL) / 2), high: at((1 + LEVEL) / 2) };
}

// Intervals {low, high} of what `grade` gives of these cells.
export function gradeIntervals(cells) {
  const names = Object.keys(cells);
  const total = names.reduce((sum, name) => sum + cells[name], 0);
  const uniform = uniforms(SEED);
  const drawn = Array.from({ length: DRAWS }, () => {
    let [pairs, rest] = [total, total];
    return grade(Object.fromEntries(names.map((name) => {
      const size = rest ? binomial(pairs, cells[name] / rest, uniform) : 0;
      pairs -= size;
      rest -= cells[name];
      return [name, size];
    })));
  });
  return Object.fromEntries(Object.keys(drawn[0]).map((name) => [name, middle(drawn.map((each) => each[name]))]));
}
