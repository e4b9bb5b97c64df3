// The three kinds of map, read and told in one grammar: attention, guidance, sensitivity.

import { node, number } from './charts.js';
import { coverage, gearysC, mass, massInMask, overlapWithMask, placeIn, readMap, scatter } from './maps.js';

export const ATTENTION = 'attention';
export const GUIDANCE = 'guidance';
export const SENSITIVITY = 'sensitivity';
export const KINDS = [
  [ATTENTION, 'Attention', 'Where the picture reads a word'],
  [GUIDANCE, 'Guidance', 'What the whole text changes'],
  [SENSITIVITY, 'Sensitivity', 'What one word changes'],
];
export const isKind = (name) => KINDS.some(([kind]) => kind === name);

// What a map of each kind is, and what implosion does to it, in a sentence each.
export const SENTENCES = {
  [ATTENTION]: ['Attention is where the picture reads a word.', 'In an imploded model a word is read less: its map fades, and may scatter.'],
  [GUIDANCE]: ['Guidance is what the whole text changes: the prediction with the prompt less the one without.', 'In an imploded model it is weaker.'],
  [SENSITIVITY]: ['Sensitivity is what one word changes: the prediction with it less the one with random words in its place.', 'An imploded model hardly notices which word stands there.'],
};
export const UNITS = {
  [ATTENTION]: 'Attention of a place to the word: 0 to 1, summing to 1 over all words',
  [GUIDANCE]: 'Length of the change over the channels of the latents, as a change of the predicted noise',
  [SENSITIVITY]: 'Length of the change over the channels of the latents, as a change of the predicted noise; mean over random words',
};
export const WHOLE_TEXT = -1; // in place of a word's index
const ROUNDING = 2 / 255; // of the top, in a map of 8 bits

// Which rows a kind has: guidance is of the whole text, whatever words are kept.
export const rowsOf = (kind, words) => (kind === GUIDANCE ? [WHOLE_TEXT] : words);

export const rowName = (column, row) => (row === WHOLE_TEXT ? 'the whole prompt' : column.words[row]);

// The map that `state` chooses of a column for a row; null where there is none (see `whyNoMap`).
export function chosenMap(column, row, first, state) {
  if (state.kind === GUIDANCE) return column.guidance && column.guidance[Math.min(state.step, column.guidance.length - 1)];
  if (state.kind === SENSITIVITY) return sensitivityAt(column, row, state.step)?.map ?? null;
  const place = placeIn(column, first, state);
  return place && readMap(column, place, Math.min(row, column.words.length - 1));
}

// What was measured of a word: the mean over the steps measured or, of one step, that of the nearest of them.
function sensitivityAt(column, row, step) {
  const measured = [...column.sensitivity.get(row)?.values() ?? []];
  if (!measured.length) return null;
  const distance = (each) => Math.abs(each.step + 1 - step);
  const steps = step ? [measured.reduce((best, each) => (distance(each) < distance(best) ? each : best))] : measured;
  const { map } = steps[0];
  const mean = Object.assign(map.map((_, at) => average(steps.map((each) => each.map[at]))), { height: map.height, width: map.width });
  const draws = steps[0].draws.map((_, draw) => average(steps.map((each) => each.draws[draw])));
  return { map: mean, steps, strength: average(draws), error: standardError(draws), draws: draws.length };
}

const average = (values) => values.reduce((total, value) => total + value, 0) / values.length;

// Of the mean over draws, which are the same in every step and model; null for a single one.
function standardError(values) {
  if (values.length < 2) return null;
  const mean = average(values);
  return Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / (values.length - 1) / values.length);
}

export function whyNoMap(column, row, { kind }) {
  if (kind === GUIDANCE) return `No guidance map: ${column.no_guidance}.`;
  if (kind === ATTENTION) return 'This model has no such layer, size or head.';
  if (column.no_sensitivity) return `Sensitivity cannot be measured: ${column.no_sensitivity}.`;
  return isWord(column, row) ? 'Not measured yet.' : 'This is no word of the prompt, so nothing can stand in its place.';
}

export const isWord = (column, row) => row >= 0 && row < column.words.length - 2;

// Whether a map is the same everywhere within its own rounding; `difference` maps are held against `top`, the largest
// value of what they are differences of.
export function isUniform(map, top = null) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of map) { low = Math.min(low, value); high = Math.max(high, value); }
  return high - low <= ROUNDING * (top ?? Math.max(Math.abs(low), Math.abs(high)));
}

// Numbers beside a map, as [name, text, explanation].
export function numbersOf(column, row, map, state) {
  const shape = [
    ['scatter', number(scatter(map)), 'Spatial entropy over its maximum: 0 is one place, 1 is uniform noise'],
    ["Geary's C", number(gearysC(map)), "Geary's C, the order in space: near 0 is a smooth blob, 1 is scattered noise. Scatter does not see order"],
    ...objectNumbers(column, map),
  ];
  if (state.kind === ATTENTION) return [...shape, ['mass', number(mass(map)), 'Share of all attention that this word gets']];
  if (state.kind === GUIDANCE) return [['strength', number(mass(map)), `${UNITS[GUIDANCE]}, averaged over places`], ...shape];
  const { strength, error, steps, draws } = sensitivityAt(column, row, state.step);
  const name = (each) => (column.given ? `t = ${column.timesteps[each.step]}` : `step ${each.step + 1}`);
  const measured = steps.length === 1 ? ['at', name(steps[0])] : ['over', `${steps.length} ${column.given ? 'levels' : 'steps'}`];
  return [['strength', `${number(strength)}${error === null ? '' : ` ± ${number(error)}`}`, `${UNITS[SENSITIVITY]}, averaged over places; ± is the standard error over draws`],
    [...measured, `Measured with ${draws} random words at ${steps.map(name).join(', ')}`], ...shape];
}

// Where the object of a given picture is known.
function objectNumbers({ mask }, map) {
  if (!mask) return [];
  const covered = coverage(mask, map);
  const area = number(covered.reduce((total, share) => total + share, 0) / covered.length);
  return [['in the object', number(massInMask(map, covered)), `Share of the map that lies in the object; a uniform map has ${area}, the object's share of the picture`],
    ['IoU', number(overlapWithMask(map, covered)), `Intersection over union of the object and as many of the map's highest places; a uniform map has about ${area}`]];
}

export const kindSentence = (kind) => node('span', { class: 'kind-sentence' }, SENTENCES[kind].join(' '));
