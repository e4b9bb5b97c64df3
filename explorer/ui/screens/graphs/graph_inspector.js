// The inspector of one pair, the list of biggest movers, the list of selected pairs.

import { here } from './address.js';
import { count, node, number } from './charts.js';
import { PAIR_KINDS, kindsOf, pairKind, pairWords } from './poison.js';

const SCORES = [
  ['feature_distance', 'D_img:txt', 'feature distance of caption and picture'],
  ['structure_distance', 'D_s', 'structure distance: how differently caption and picture see all other pairs'],
  ['sample_ad', 'AD(x,y)', 'alignment difficulty of this pair'],
];
const LISTED = 24;

export function thumbnail(data, row, side) {
  const { size, columns } = data.thumbnails;
  const scale = side / size;
  const rows = Math.ceil(data.samples.uid.length / columns);
  const kind = pairKind(data.samples, row);
  const style = [
    `width:${side}px`, `height:${side}px`, `background-image:url("${here(data.thumbnails_url)}")`,
    `background-size:${columns * size * scale}px ${rows * size * scale}px`,
    `background-position:-${(row % columns) * side}px -${Math.floor(row / columns) * side}px`,
  ].join(';');
  return node('span', { class: `graph-thumbnail ${kind}`, style, 'aria-hidden': 'true' });
}

export function badge(data, row) {
  const kind = pairKind(data.samples, row);
  return node('span', { class: `kind-badge ${kind}` },
    node('span', { 'aria-hidden': 'true' }, `${PAIR_KINDS[kind].mark} `), pairWords(data.samples, row));
}

// Equal scores share their places, first to last. Artefacts of earlier releases give the first alone: there a tie shows
// where another pair drawn has the same.
export function rankWords(samples, key, row) {
  const ranks = samples[`${key}_rank`];
  const [first, last] = [ranks[row], samples[`${key}_rank_last`]?.[row]];
  if (last > first) return `${count(first)}–${count(last)} (tied)`;
  return last === undefined && ranks.some((rank, other) => rank === first && other !== row) ? `${count(first)} (tied)` : count(first);
}

export function renderInspector(root, data, row, inspect) {
  if (row === null) {
    root.replaceChildren(node('h3', {}, 'Inspector'), node('p', { class: 'note' },
      'Click a pair in either graph, pick one of the biggest movers, or focus a graph and use the arrow keys. '
      + 'The same pair is then marked on both sides.'));
    return;
  }
  const { samples } = data;
  const text = data.text.neighbours[row];
  const image = data.image.neighbours[row];
  const shared = new Set(text.filter((other) => image.includes(other)));
  const agreement = shared.size === 0
    ? `The two graphs agree on none of its ${text.length} neighbours.`
    : `The two graphs agree on ${shared.size} of its ${text.length} neighbours.`;
  root.replaceChildren(
    node('div', { class: 'inspector-head' }, thumbnail(data, row, 92),
      node('div', {}, badge(data, row), node('p', { class: 'inspector-caption' }, `“${samples.caption[row]}”`),
        node('p', { class: 'note' }, samples.uid[row]))),
    scoreTable(data, row),
    node('p', { class: 'inspector-agreement' }, agreement),
    neighbourList('Nearest by caption', data, 'text', row, shared, inspect),
    neighbourList('Nearest by picture', data, 'image', row, shared, inspect),
    node('p', { class: 'note' }, 'A tick: neighbours on both sides. Numbers: cosine of a neighbour on this side only.'),
  );
}

function scoreTable(data, row) {
  const { samples, set } = data;
  const lines = SCORES.map(([key, label, title]) => {
    const rank = samples[`${key}_rank`][row];
    const above = 100 * (1 - (rank - 1) / set.pairs);
    return node('tr', {},
      node('th', { scope: 'row', title }, label), node('td', { class: 'figure' }, number(samples[key][row], 3)),
      node('td', {}, node('span', { class: 'rank-bar', 'aria-hidden': 'true' },
        node('span', { style: `width:${above.toFixed(1)}%` }))),
      node('td', { class: 'figure' }, rankWords(samples, key, row)));
  });
  if (samples.loss) {
    lines.push(node('tr', {}, node('th', { scope: 'row', title: `mean squared error of ${data.loss_model}'s prediction` }, 'Loss'),
      node('td', { class: 'figure' }, number(samples.loss[row], 3)), node('td', {}), node('td', {})));
  }
  const head = ['Score', 'Value', '', `Rank of ${count(set.pairs)}`].map((label, at) => (label
    ? node('th', { scope: 'col', title: at === 3 ? 'Rank 1 is the highest score of the set; pairs of the same score share their ranks' : null }, label) : node('td')));
  return node('table', { class: 'inspector-scores' }, node('thead', {}, node('tr', {}, head)), node('tbody', {}, lines));
}

function neighbourList(title, data, side, row, shared, inspect) {
  const items = data[side].neighbours[row].map((other, at) => {
    const agreed = shared.has(other);
    const cosine = number(data[side].similarities[row][at], 2);
    const where = agreed ? 'neighbour on both sides' : 'neighbour on this side only';
    const label = `${data.samples.caption[other]} (${pairWords(data.samples, other)}; cosine ${cosine}; ${where})`;
    return node('button', {
      type: 'button', class: `neighbour ${agreed ? 'agreed' : 'disagreed'}`, title: label, 'aria-label': label,
      onclick: () => inspect(other),
    }, thumbnail(data, other, 34), node('span', { class: 'neighbour-cosine' }, agreed ? '✓' : cosine.replace('0.', '.')));
  });
  return node('section', {}, node('h4', {}, title), node('div', { class: 'neighbours' }, items));
}

export function renderMovers(root, data, selected, inspect) {
  root.replaceChildren(...data.movers.map((row) => pairButton(data, row, selected, inspect)));
}

export function renderChosen(root, data, chosen, selected, inspect) {
  const rows = [...chosen].sort((first, second) =>
    data.samples.structure_distance[second] - data.samples.structure_distance[first]);
  const shown = rows.slice(0, LISTED).map((row) => pairButton(data, row, selected, inspect));
  const rest = rows.length - shown.length;
  root.replaceChildren(...shown, ...(rest > 0
    ? [node('p', { class: 'note' }, `and ${count(rest)} more, in order of D_s`)] : []));
}

export function chosenSummary({ samples }, chosen) {
  const rows = [...chosen];
  const parts = kindsOf(samples).map((kind) =>
    `${count(rows.filter((row) => pairKind(samples, row) === kind).length)} ${PAIR_KINDS[kind].words}`).join(', ');
  const mean = (key) => number(rows.reduce((sum, row) => sum + samples[key][row], 0) / rows.length, 3);
  return `${count(rows.length)} ${rows.length === 1 ? 'pair' : 'pairs'}: ${parts}; `
    + `means: D_img:txt ${mean('feature_distance')}, D_s ${mean('structure_distance')}, AD ${mean('sample_ad')}`;
}

function pairButton(data, row, selected, inspect) {
  const { samples } = data;
  return node('button', {
    type: 'button', class: 'pair-button', 'aria-pressed': row === selected ? 'true' : 'false', 'data-row': row,
    onclick: () => inspect(row),
  }, thumbnail(data, row, 48), node('span', { class: 'pair-button-text' },
    node('span', { class: 'pair-button-caption' }, samples.caption[row]),
    node('span', { class: `pair-button-kind ${pairKind(samples, row)}` }, pairWords(samples, row)),
    node('span', { class: 'note' }, `D_s ${number(samples.structure_distance[row], 3)}`)));
}
