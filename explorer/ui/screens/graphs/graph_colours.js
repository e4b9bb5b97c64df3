// How points are coloured, and the legend that says so.

import { count, node, number, theme } from './charts.js';
import { SCORE_WORDS, scoreLabel } from './graph_data.js';
import { rgb } from './point_raster.js';
import { KINDS, PAIR_KINDS } from './poison.js';

const STEPS = 64;

export const colouringsOf = (data) => [['kind', 'Benign / poisoned'], ['concept', 'Concept'],
  ...data.scoreNames.map((name) => [name, SCORE_WORDS[name] ? `${scoreLabel(name)}, ${SCORE_WORDS[name][1].split(':')[0]}` : name])];

// [concept, pairs] of every main concept, the most frequent first; pairs without one are not listed.
export function conceptCounts(data) {
  if (!data.conceptCounts) {
    const counts = new Map();
    for (const id of data.mainConcept) if (id >= 0) counts.set(data.header.concepts[id], (counts.get(data.header.concepts[id]) ?? 0) + 1);
    data.conceptCounts = [...counts].sort((first, second) => second[1] - first[1] || first[0].localeCompare(second[0]));
  }
  return data.conceptCounts;
}

// The six most frequent concepts, or the one in focus: concept to colour.
function conceptColours(data, focus) {
  const colours = theme().concepts;
  const names = focus ? [focus] : conceptCounts(data).slice(0, colours.length).map(([name]) => name);
  return new Map(names.map((name, at) => [name, colours[focus ? 4 : at]]));
}

// A list of colours [red, green, blue], which of them each pair has, and how opaque each colour is, 0 to 1.
export function paint(data, colouring, focus) {
  const colours = theme();
  if (colouring === 'kind') {
    return { colours: KINDS.map((kind) => rgb(colours[kind])), index: data.kindOf, opacity: KINDS.map(() => 1) };
  }
  const index = new Uint8Array(data.count);
  if (colouring === 'concept') {
    const chosen = [...conceptColours(data, focus)];
    const places = new Map(chosen.map(([name], at) => [data.header.concepts.indexOf(name), at + 1]));
    for (let row = 0; row < data.count; row += 1) index[row] = places.get(data.mainConcept[row]) ?? 0;
    return { colours: [rgb(colours.faint), ...chosen.map(([, colour]) => rgb(colour))], index, opacity: [0.35, ...chosen.map(() => 1)] };
  }
  const values = data.scores[colouring];
  const [low, high] = limits(values);
  for (let row = 0; row < data.count; row += 1) {
    const share = (values[row] - low) / (high - low);
    index[row] = Number.isNaN(share) ? STEPS : Math.round(Math.min(1, Math.max(0, share)) * (STEPS - 1));
  }
  const steps = Array.from({ length: STEPS }, (_, step) => between(colours.scale, step / (STEPS - 1)));
  return { colours: [...steps, rgb(colours.faint)], index, opacity: [...steps.map(() => 1), 0.35] };
}

function between(scale, share) {
  const above = scale.findIndex(([at]) => at >= share);
  if (above <= 0) return rgb(scale[0][1]);
  const [[low, first], [high, second]] = [scale[above - 1], scale[above]];
  const part = (share - low) / (high - low);
  return rgb(first).map((channel, at) => Math.round(channel + (rgb(second)[at] - channel) * part));
}

// What the legend says: `words`, of a `kind` of pairs, with a `swatch`, or as a `note`; or a `scale` from one to the next.
export function legendOf(data, colouring, focus) {
  const words = (kind) => `${PAIR_KINDS[kind].mark} ${PAIR_KINDS[kind].words}`;
  if (colouring === 'kind') return data.kinds().map((kind) => ({ kind, words: `${words(kind)} (${count(data.kindCounts[data.kindNumber(kind)])})` }));
  const shapes = { words: data.kinds().map(words).join('  '), note: true };
  if (colouring === 'concept') {
    const sizes = new Map(conceptCounts(data));
    const entries = [...conceptColours(data, focus)].map(([name, swatch]) => ({ swatch, words: `${name} (${count(sizes.get(name) ?? 0)})` }));
    return [...entries, { words: 'by the caption’s main concept', note: true }, shapes];
  }
  const [low, high] = limits(data.scores[colouring]);
  return [{ words: `${scoreLabel(colouring)}: ${number(low, 2)}` }, { scale: theme().scale }, { words: number(high, 2) }, shapes];
}

export function renderLegend(root, data, colouring, focus) {
  root.replaceChildren(...legendOf(data, colouring, focus).map(({ words, kind = '', note, swatch, scale }) => {
    if (scale) {
      const stops = scale.map(([at, colour]) => `${colour} ${at * 100}%`).join(',');
      return node('span', { class: 'legend-scale', title: 'From the 1st to the 99th percentile of the pairs drawn', style: `background:linear-gradient(to right,${stops})` });
    }
    return node('span', { class: note ? 'note' : `legend-entry ${kind}` }, swatch ? node('span', { class: 'legend-swatch', style: `background:${swatch}` }) : null, words);
  }));
}

// The 1st and 99th percentile: a few extreme pairs must not flatten all other colours.
function limits(values) {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  if (!sorted.length) return [0, 1];
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.01), Math.max(at(0.99), at(0.01) + 1e-6)];
}
