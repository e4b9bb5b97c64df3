// The film strip as a table: models down, concepts across.

import { node, number, ordinal } from './charts.js';
import { FLAT, KINDS, drawCell } from './implosion_strip.js';
import { aimOf, aimsAt, cpLabel, poisonKind } from './poison.js';
import { talking } from './talk.js';
import { explained } from './terms.js';

const GAP = 10; // between concepts
const CAPTION = 24; // of a row, beside its pictures
const HEAD = 52;
const LEAST = { usual: 96, phone: 58, talk: 110 }; // pixels of a picture's side
const MOST = { usual: 8, talk: 16 }; // concepts on a page
const MOST_ROWS = 4; // models at once in talk mode

// What is shown of each cell, in the order of KINDS; it is one word so that a link can have it.
export const kindsOf = (contents) => contents.split('-');
export const contentsOf = (kinds) => KINDS.map(([kind]) => kind).filter((kind) => kinds.includes(kind)).join('-');

// How large pictures are and how many concepts and models are shown at once, in a place of `width` by `height` pixels.
// Outside of talk mode the page may be scrolled, and pictures are as wide as their column.
// On a phone a picture with its map is so small that two concepts fit: one poisoned, one not targeted.
export function roomFor({ width, height, left, models, contents, talk, phone }) {
  const kinds = kindsOf(contents).length;
  const rows = talk ? Math.min(models, MOST_ROWS) : models;
  const beside = width - left;
  const least = LEAST[talk ? 'talk' : phone && kinds > 1 ? 'phone' : 'usual'];
  const high = talk ? Math.floor((height - HEAD) / rows) - CAPTION : least;
  const cell = Math.max(least, Math.min(high, Math.floor(beside / kinds) - GAP));
  const across = Math.floor(beside / (kinds * (cell + 4) + GAP));
  return { cell, rows, concepts: Math.max(1, Math.min(across, talk ? MOST.talk : MOST.usual)) };
}

// The models shown at once: the first, and of the others those of the page that holds the one walked to.
export function modelsInSight(models, current, rows) {
  const all = models.map((model, column) => ({ model, column }));
  if (models.length <= rows) return all;
  const begin = 1 + Math.floor(Math.max(0, current - 1) / (rows - 1)) * (rows - 1);
  const first = Math.min(begin, models.length - rows + 1);
  return [all[0], ...all.slice(first, first + rows - 1)];
}

// `screen` has models, film, sheets, state, count, sure, `stored_blame` (concepts by model), and `blame(model, concept)` for a
// click on a wrong picture.
export function filmTable(screen, rows, room, onModel) {
  const { models, state } = screen;
  const told = new Set();
  const head = node('tr', {}, node('th', { scope: 'col' }, 'Model'), rows.map((row) => conceptHead(row, models, models[state.current], told)));
  const body = modelsInSight(models, state.current, room.rows).map(({ model, column }) => node('tr', {
    class: `${column === state.current ? 'current' : ''} ${column > state.current ? 'ahead' : ''}`, onclick: () => onModel(column),
  }, modelHead(model, models), rows.map((row) => cell(screen, model, column, row))));
  return node('table', { class: 'film-table', style: `--concepts: ${rows.length}; --cell: ${room.cell}px; --kinds: ${kindsOf(state.contents).length}` },
    node('caption', { class: 'visually-hidden' }, 'Pictures by model and concept, same seed and noise'),
    node('thead', {}, head), node('tbody', {}, body));
}

// What the words do not say opens at the first of those that say the same (`told`).
function conceptHead(row, models, current, told) {
  const { kind, words, title } = aimOf(row.concept, row.poisoned_from, models);
  const here = current && aimsAt(current, row.concept);
  const opens = title && !told.has(title);
  told.add(title);
  return node('th', { scope: 'col', class: kind, title },
    node('span', { class: 'concept' }, row.concept),
    node('span', { class: `from${here ? ' here' : ''}` }, opens ? explained(words, title) : words));
}

function modelHead(model, models) {
  const { kind, words } = cpLabel(model, models);
  return node('th', { scope: 'row', class: kind }, node('span', { class: 'cp' }, words), node('span', { class: 'from' }, model.name));
}

function cell(screen, model, column, row) {
  const facts = model.cells[row.row];
  const poisoned = aimsAt(model, row.concept);
  const verdict = verdictOf(facts, row.concept, screen.sure);
  const title = `${row.concept} by ${model.name}: ${verdict ? `${verdict.title}, ` : ''}scatter ${facts.scatter.toFixed(3)}${typeof facts.guidance === 'number' ? `, guidance ${number(facts.guidance, 2)}` : ''}`;
  const canvases = kindsOf(screen.state.contents).map((kind) => pictureOf(screen, kind, column, row.row, title));
  // The control's own mistakes are no implosion: it is what blame is measured against.
  const stored = screen.stored_blame[model.name]?.includes(row.concept);
  const blamed = stored && verdict?.kind === 'bad' && poisonKind(model) !== 'benign' && !talking();
  const blame = blamed ? () => screen.blame(model, row.concept) : null;
  const mark = verdict && (blamed
    ? node('button', { type: 'button', class: 'seen bad', 'aria-label': `${verdict.title}: which pairs are blamed for ${row.concept} by ${model.name}?` }, verdict.words)
    : node('span', { class: `seen ${verdict.kind}` }, verdict.words));
  return node('td', { class: poisoned ? 'poisoned' : 'benign', title: blamed ? `${title}. Click: which training pairs are blamed?` : title, onclick: blame }, node('div', { class: 'cells' }, canvases), mark);
}

// A map that says nothing is marked on itself, so that no row grows by it.
function pictureOf(screen, kind, column, row, title) {
  const { word, why } = mapMark(screen, kind, column, row);
  const canvas = drawCell(screen.sheets[kind], screen.film.cell, column, row, kind, word ? `${title}, ${why}` : title);
  if (!word) return canvas;
  return node('span', { class: 'marked-map', title: why }, canvas, node('span', { class: 'map-mark', 'aria-hidden': 'true' }, word));
}

// What is marked on a cell, and why: {word, why}, empty where nothing is.
export function mapMark({ sheets, film }, kind, column, row) {
  if (kind === 'maps' && sheets.flat[column][row]) return { word: 'flat', why: FLAT };
  const none = kind === 'guidance' && film.models[column].no_guidance;
  return none ? { word: 'none', why: none } : { word: '', why: '' };
}

// What the marks on the cells of `rows` mean: [word, why], each once.
export function marksShown(screen, rows) {
  const found = kindsOf(screen.state.contents).flatMap((kind) => screen.film.models.flatMap((_, column) => rows.map(({ row }) => mapMark(screen, kind, column, row))));
  return [...new Map(found.filter(({ word }) => word).map(({ word, why }) => [word, why]))];
}

// What the judge says of a picture: {mark, words, title, kind}; null where none looked. It is sure only where it names the
// concept first and as clearly as `sure` has it.
export function verdictOf({ top_concept: top, clip_similarity: fit, margin, rank }, concept, sure) {
  if (!top) return null;
  const place = rank > 1 ? `, ${ordinal(rank)}` : '';
  const beside = [`fit ${number(fit, 2)}`, typeof margin === 'number' ? `${number(margin, 2)} before the next noun` : ''].filter(Boolean).join(', ');
  if (top !== concept) {
    return { mark: '✗', words: `✗ ${top}${place}`, kind: 'bad', title: `looks like ${top}${rank > 1 ? `, ${concept} comes ${ordinal(rank)}` : ''}, ${beside}` };
  }
  return isClear({ fit, margin }, sure) ? { mark: '✓', words: `✓ ${number(fit, 2)}`, kind: 'good', title: `looks like ${concept}, ${beside}` }
    : { mark: '?', words: `? ${number(fit, 2)}`, kind: 'doubt', title: `looks most like ${concept}, but not clearly: ${beside}` };
}

// Whether a verdict for the concept asked for is sure.
export const isClear = ({ fit, margin }, sure) => sure !== null && fit >= sure.fit && (sure.margin === null || margin >= sure.margin);

// From which fit, and how far before the next noun, a verdict is sure; null where the control gets too few right to say.
// Strips of earlier releases have tau alone.
export function surenessOf({ sure }, tau) {
  if (sure === undefined) return tau === null ? null : { fit: tau, margin: null, pictures: 0 };
  return sure && { fit: sure.clip_similarity, margin: sure.margin, pictures: sure.pictures };
}

// The bounds in words, for legends.
export function sureWords(sure) {
  if (sure === null) return 'from where on it is sure is not known, where the control gets hardly any right';
  if (sure.margin === null) return `sure from a CLIP similarity of τ = ${number(sure.fit, 2)}`;
  return `sure from a CLIP similarity of ${number(sure.fit, 2)} and ${number(sure.margin, 2)} before the next noun, as are three quarters, in either, of the ${sure.pictures} pictures that the control gets right`;
}
