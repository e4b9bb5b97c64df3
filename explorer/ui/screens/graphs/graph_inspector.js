// The inspector of one pair, and what a pair looks like wherever it is listed.

import { count, node, number } from './charts.js';
import { SCORE_WORDS, scoreLabel } from './graph_data.js';
import { here } from './address.js';
import { PAIR_KINDS } from './poison.js';

const hasThumbnail = (data, row) => (data.thumbnail?.[row] ?? -1) >= 0;

// The mark of the pair's kind stands where there is no picture, or until it is there.
export function thumbnail(data, row, side) {
  const kind = data.kind(row);
  if (!hasThumbnail(data, row)) {
    const place = node('span', { class: `graph-thumbnail none ${kind}`, style: `width:${side}px;height:${side}px`, 'aria-hidden': 'true' },
      PAIR_KINDS[kind].mark);
    data.pictures?.fill(place, data.armRow[row], side);
    return place;
  }
  const cell = data.thumbnail[row];
  const { size, columns } = data.header.thumbnails;
  const scale = side / size;
  const style = [
    `width:${side}px`, `height:${side}px`, `background-image:url("${here(data.set.thumbnails_url)}")`,
    `background-size:${columns * size * scale}px ${data.sheet.naturalHeight * scale}px`,
    `background-position:-${(cell % columns) * side}px -${Math.floor(cell / columns) * side}px`,
  ].join(';');
  return node('span', { class: `graph-thumbnail ${kind}`, style, 'aria-hidden': 'true' });
}

export function badge(data, row) {
  const kind = data.kind(row);
  return node('span', { class: `kind-badge ${kind}` },
    node('span', { 'aria-hidden': 'true' }, `${PAIR_KINDS[kind].mark} `), data.words(row));
}

// What stands in the card beside the mouse.
export function describe(data, row) {
  return [thumbnail(data, row, 40), node('span', {}, node('span', { class: 'hover-caption' }, data.caption(row)),
    badge(data, row), node('span', { class: 'note' }, `D_s ${number(data.scores.structure_distance[row], 3)}`))];
}

// Equal scores share their places, first to last; a pair that was not measured has none.
function rankWords([firsts, lasts], row) {
  if (!firsts[row]) return '–';
  return lasts[row] > firsts[row] ? `${count(firsts[row])}–${count(lasts[row])} (tied)` : count(firsts[row]);
}

export function renderInspector(root, data, row, inspect) {
  if (row === null) {
    root.replaceChildren(node('h3', {}, 'Inspector'), node('p', { class: 'note' },
      'Click a pair on either map or in the table, or focus one of these and use the arrow keys. The same pair is then '
      + 'marked everywhere.'));
    return;
  }
  const [text, image] = ['text', 'image'].map((side) => data.neighbours(side, row));
  const shared = new Set(text.filter((other) => image.includes(other)));
  root.replaceChildren(
    node('div', { class: 'inspector-head' }, thumbnail(data, row, 92),
      node('div', {}, badge(data, row), node('p', { class: 'inspector-caption' }, `“${data.caption(row)}”`),
        node('p', { class: 'note' }, data.uids(row)),
        hasThumbnail(data, row) ? null : noThumbnail(data))),
    scoreTable(data, row),
    node('p', { class: 'inspector-agreement' }, `The two graphs agree on ${shared.size || 'none'} of its ${text.length} neighbours.`),
    neighbourList('Nearest by caption', data, 'text', row, shared, inspect),
    neighbourList('Nearest by picture', data, 'image', row, shared, inspect),
    node('p', { class: 'note' }, 'A tick: neighbours on both sides. Numbers: cosine of a neighbour on this side only. '
      + `Among all ${count(data.header.set.pairs)} pairs of the set.`),
  );
}

// Why a pair that no thumbnail was kept of has no picture; null where one can be fetched.
function noThumbnail(data) {
  const { pictures } = data;
  if (pictures && !pictures.whyNone) return null;
  const kept = data.thumbnail?.reduce((sum, cell) => sum + (cell >= 0), 0);
  const words = kept ? `No thumbnail: ${count(kept)} of the ${count(data.count)} pairs drawn have one, the biggest movers and a sample.`
    : 'No thumbnails were kept of this set.';
  const others = pictures ? [` ${pictures.whyNone.problem}`, pictures.whyNone.command ? [' To have all: ', node('code', {}, pictures.whyNone.command)] : []]
    : ' Draw the graphs again to have all.';
  return node('p', { class: 'note no-thumbnail' }, words, others);
}

function scoreTable(data, row) {
  const { set: { pairs }, measured } = data.header;
  const lines = data.scoreNames.map((name) => {
    const ranks = data.ranks[name];
    const above = ranks[0][row] ? 100 * (1 - (ranks[0][row] - 1) / measured[name]) : 0;
    const among = ranks[0][row] && measured[name] < pairs ? ` of ${count(measured[name])}` : ''; // not all were measured
    const title = name === 'loss' && data.header.facts.loss_model
      ? `mean squared error of ${data.header.facts.loss_model}'s prediction` : SCORE_WORDS[name]?.[1];
    return node('tr', {},
      node('th', { scope: 'row', title }, scoreLabel(name)), node('td', { class: 'figure' }, number(data.scores[name][row], 3)),
      node('td', {}, node('span', { class: 'rank-bar', 'aria-hidden': 'true' }, node('span', { style: `width:${above.toFixed(1)}%` }))),
      node('td', { class: 'figure' }, rankWords(ranks, row) + among));
  });
  const head = ['Score', 'Value', '', `Rank of ${count(pairs)}`].map((label, at) => (label
    ? node('th', { scope: 'col', title: at === 3 ? 'Rank 1 is the highest score of the set; pairs of the same score share their ranks' : null }, label) : node('td')));
  return node('table', { class: 'inspector-scores' }, node('thead', {}, node('tr', {}, head)), node('tbody', {}, lines));
}

export function neighbourList(title, data, side, row, shared, inspect) {
  const items = Array.from(data.neighbours(side, row), (other, at) => {
    const agreed = shared.has(other);
    const cosine = number(data.similarity(side, row, at), 2);
    const where = agreed ? 'neighbour on both sides' : 'neighbour on this side only';
    const known = other >= 0;
    const label = known ? `${data.caption(other)} (${data.words(other)}; cosine ${cosine}; ${where})`
      : `row ${count(-1 - other)} of the set, which is not drawn (cosine ${cosine}; ${where})`;
    return node('button', {
      type: 'button', class: `neighbour ${agreed ? 'agreed' : 'disagreed'}`, title: label, 'aria-label': label,
      disabled: !known, onclick: () => inspect(other),
    }, known ? thumbnail(data, other, 34) : node('span', { class: 'not-drawn' }, 'not drawn'),
    node('span', { class: 'neighbour-cosine' }, agreed ? '✓' : cosine.replace('0.', '.')));
  });
  return node('section', {}, node('h4', {}, title), node('div', { class: 'neighbours' }, items));
}

// How many pairs are meant, of which kinds, and their mean scores.
export function selectionWords(data, rows) {
  const sizes = [0, 0, 0];
  for (const row of rows) sizes[data.kindOf[row]] += 1;
  const parts = data.kinds().map((kind) => `${count(sizes[data.kindNumber(kind)])} ${PAIR_KINDS[kind].words}`).join(', ');
  const means = data.scoreNames.map((name) => {
    let [sum, measured] = [0, 0];
    for (const row of rows) {
      if (Number.isNaN(data.scores[name][row])) continue;
      sum += data.scores[name][row];
      measured += 1;
    }
    return `${scoreLabel(name)} ${measured ? number(sum / measured, 3) : '–'}`;
  });
  return `${count(rows.length)} ${rows.length === 1 ? 'pair' : 'pairs'}: ${parts}${rows.length ? `; means: ${means.join(', ')}` : ''}`;
}
