// How points are coloured, and the legend that says so.

import { count, node, number, theme } from './charts.js';
import { PAIR_KINDS, kindsOf, pairKind } from './poison.js';

export const COLOURINGS = [
  ['kind', 'Benign / poisoned'], ['concept', 'Concept'], ['sample_ad', 'AD(x,y) of the pair'],
  ['structure_distance', 'D_s, structure'], ['feature_distance', 'D_img:txt, feature'], ['loss', 'Denoising loss'],
];

// A set that was drawn without a model has no losses.
export const colouringsOf = (data) => COLOURINGS.filter(([value]) => value !== 'loss' || data.samples.loss);

export function conceptCounts(data) {
  const counts = new Map();
  for (const concept of data.samples.main_concept) counts.set(concept, (counts.get(concept) ?? 0) + 1);
  return [...counts].sort((first, second) => second[1] - first[1] || first[0].localeCompare(second[0]));
}

// The six most frequent concepts, or the one in focus: concept to colour.
function conceptColours(data, focus) {
  const colours = theme().concepts;
  const names = focus ? [focus] : conceptCounts(data).slice(0, colours.length).map(([name]) => name);
  return new Map(names.map((name, at) => [name, colours[focus ? 4 : at]]));
}

// A function (rows, kind, colours) -> Plotly marker settings.
export function markers(data, colouring, focus) {
  if (colouring === 'kind') {
    return (rows, kind, colours) => ({ color: colours[kind], opacity: 0.85 });
  }
  if (colouring === 'concept') {
    const chosen = conceptColours(data, focus);
    return (rows, kind, colours) => ({
      color: rows.map((row) => chosen.get(data.samples.main_concept[row]) ?? colours.faint),
      opacity: rows.map((row) => (chosen.has(data.samples.main_concept[row]) ? 0.95 : 0.25)),
    });
  }
  const [low, high] = limits(data.samples[colouring]);
  return (rows, kind, colours) => ({
    color: rows.map((row) => data.samples[colouring][row]), colorscale: colours.scale, cmin: low, cmax: high,
    opacity: 0.9,
  });
}

export function renderLegend(root, data, colouring, focus) {
  const { samples } = data;
  const kinds = Object.keys(PAIR_KINDS).filter((kind) => kindsOf(samples).includes(kind)).map((kind) => ({
    kind, text: `${PAIR_KINDS[kind].mark} ${PAIR_KINDS[kind].words}`, size: samples.uid.filter((_, row) => pairKind(samples, row) === kind).length }));
  const shapes = node('span', { class: 'note' }, kinds.map(({ text }) => text).join('  '));
  if (colouring === 'kind') {
    root.replaceChildren(...kinds.map(({ kind, text, size }) =>
      node('span', { class: `legend-entry ${kind}` }, `${text} (${count(size)})`)));
  } else if (colouring === 'concept') {
    const sizes = new Map(conceptCounts(data));
    const entries = [...conceptColours(data, focus)].map(([name, colour]) => node('span', { class: 'legend-entry' },
      node('span', { class: 'legend-swatch', style: `background:${colour}` }), `${name} (${sizes.get(name)})`));
    root.replaceChildren(...entries, node('span', { class: 'note' }, 'by the caption’s main concept'), shapes);
  } else {
    const [low, high] = limits(samples[colouring]);
    const stops = theme().scale.map(([at, colour]) => `${colour} ${at * 100}%`).join(',');
    const [, label] = COLOURINGS.find(([value]) => value === colouring);
    root.replaceChildren(node('span', {}, `${label}: ${number(low, 2)}`),
      node('span', { class: 'legend-scale', title: 'From the 1st to the 99th percentile of the pairs drawn', style: `background:linear-gradient(to right,${stops})` }),
      node('span', {}, number(high, 2)), shapes);
  }
}

// The 1st and 99th percentile: a few extreme pairs must not flatten all other colours.
function limits(values) {
  const sorted = [...values].sort((first, second) => first - second);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.01), Math.max(at(0.99), at(0.01) + 1e-6)];
}
