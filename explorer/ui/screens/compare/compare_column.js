// One column of the comparison: its head, picture, maps and numbers.

import { node, number, ordinal } from './charts.js';
import { chosenMap, isUniform, numbersOf, rowName, whyNoMap } from './compare_kinds.js';
import { overlap, paintMap } from './maps.js';
import { tagOf, titleOf } from './graft_names.js';
import { isClear, sureWords, surenessOf } from './implosion_film.js';
import { poisonKind } from './poison.js';
import { explained, term } from './terms.js';

const CANVAS = 320;
const MAP_PIXELS = 160;
const DEFINED = { 'CLIP similarity': 'CLIP similarity', scatter: 'scatter', "Geary's C": 'Geary’s C', mass: 'mass', 'τ': 'tau', C_P: 'C_P' }; // names by their terms
const PAN_STEP = 0.1;
const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// The top of the scale that all maps share. `context` holds the state, the column whose layers the controls offer
// (`first`), the leftmost column (`reference`; null while it is being made) and the names that open their definition
// so far (`told`).
export function scaleLimit(columns, rows, context) {
  let limit = 0;
  for (const column of columns.filter((candidate) => !candidate.pending)) {
    for (const row of rows) {
      for (const value of viewedMap(column, row, context) ?? []) limit = Math.max(limit, Math.abs(value));
    }
  }
  return limit;
}

// What is drawn in a row: its map or the difference to the reference's; null where either of them is missing.
export function viewedMap(column, row, { state, first, reference }) {
  const map = chosenMap(column, row, first, state);
  if (state.view !== 'difference' || !map) return map;
  const other = reference && chosenMap(reference, row, first, state);
  if (!other || other.height !== map.height || other.width !== map.width) return null;
  return Object.assign(map.map((value, index) => value - other[index]), { height: map.height, width: map.width });
}

// A column whose picture is not there: why, or how far it is.
export function emptyColumn(column) {
  const { progress } = column;
  const text = column.note ? column.note : column.ended ? 'Not generated: it was stopped before.'
    : progress ? `Step ${progress.done} of ${progress.total}` : 'Waiting…';
  return node('article', { class: 'compare-column pending' }, node('header', {}, node('h3', { title: column.model }, column.model)),
    node('div', { class: 'empty-picture' }, node('p', { class: 'loading' }, text),
      progress && node('progress', { max: progress.total, value: progress.done, 'aria-label': `Denoising by ${column.model}` })));
}

export function drawColumn({ column, rows, limit, context, place, screen }) {
  const article = node('article', { class: `compare-column ${poisonKind(column)}`, 'data-model': column.model },
    heading(column, place, screen, context.told));
  const picture = pictureOf(column);
  const shown = figure(column.given ? `${column.given}, shown to ${column.model}` : `Picture by ${column.model}`, screen, async (context, width, height) => {
    context.imageSmoothingEnabled = false;
    if (!picture.complete) await picture.decode(); // at once where it can be: to wait is to flicker
    context.drawImage(picture, 0, 0, width, height);
  });
  const maps = rows.map((row) => mapFigure({ column, row, limit, context, screen, picture }));
  article.append(node('div', { class: 'column-body' },
    node('div', { class: 'own-picture' }, shown, numbers({ column, rows, context, screen })), node('div', { class: 'maps' }, maps)));
  return article;
}

export function pictureOf(column) {
  if (!column.picture) {
    const picture = new Image();
    picture.src = column.image;
    Object.defineProperty(column, 'picture', { value: picture, enumerable: false });
  }
  return column.picture;
}

function heading(column, place, screen, told) {
  const letter = ['A', 'B'][screen.marks.indexOf(place)] ?? '·';
  return node('header', {},
    node('h3', { title: titleOf(column) }, titleOf(column)),
    node('span', { class: `tag ${poisonKind(column)}`, title: tagOf(column) }, tagOf(column).split(/(C_P)/).map((part) => (part === 'C_P' ? nameOf(part, '', told) : part))),
    node('button', {
      type: 'button', class: 'mark', onclick: () => screen.mark(place),
      title: letter === '·' ? 'Mark as B, to swap it with A' : `Column ${letter} of the swap`,
      'aria-label': letter === '·' ? `Mark ${column.model} as B` : `${column.model} is column ${letter} of the swap`,
    }, letter));
}

function mapFigure({ column, row, limit, context, screen, picture }) {
  const { state } = screen;
  const map = chosenMap(column, row, context.first, state);
  const shown = viewedMap(column, row, context);
  if (!shown) return node('p', { class: 'no-map' }, whyNotShown(column, row, map, context));
  const top = state.scale === 'absolute' ? limit : shown.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const signed = state.view === 'difference';
  const painted = paintMap(shown, MAP_PIXELS, top, { signed, alpha: state.view === 'overlay' });
  const element = figure(mapLabel(column, row, state), screen, async (context, width, height) => {
    if (state.view === 'overlay') {
      if (!picture.complete) await picture.decode(); // at once where it can be: to wait is to flicker
      context.filter = 'grayscale(1) brightness(0.75)';
      context.drawImage(picture, 0, 0, width, height);
      context.filter = 'none';
    }
    context.drawImage(painted, 0, 0, width, height);
  });
  element.append(caption({ column, row, map, shown, context }));
  return element;
}

const mapLabel = (column, row, { kind }) => ({ attention: `Attention to ${rowName(column, row)}`,
  guidance: 'Guidance by the whole prompt', sensitivity: `Sensitivity to ${rowName(column, row)}` }[kind] + ` in ${column.model}`);

function whyNotShown(column, row, map, { state, first, reference }) {
  if (!map) return whyNoMap(column, row, state);
  if (!reference) return 'The first column is not there yet.';
  if (!chosenMap(reference, row, first, state)) return 'The first column has no such map.';
  return 'Its maps and those of the first column differ in size.';
}

// The name of a number; the first of its kind on the page opens what it says, which is enough for a page. `told` holds
// those that do.
function nameOf(name, title, told) {
  if (told.has(name)) return name;
  told.add(name);
  return DEFINED[name] ? term(DEFINED[name], name) : explained(name, title);
}

function caption({ column, row, map, shown, context: { state, told } }) {
  const poisoned = column.poisoned_words.includes(row);
  const numbers = numbersOf(column, row, map, state).map(([name, text, title]) => node('span', { class: 'figure' }, nameOf(name, title, told), ' ', node('b', { title }, text)));
  const says = state.view === 'difference' ? isUniform(shown, Math.max(...map)) && 'no difference to the first column'
    : isUniform(map) && 'the same everywhere: this map says nothing';
  return node('figcaption', {},
    node('span', { class: `map-word${poisoned ? ' poisoned' : ''}`, title: poisoned ? 'This model was poisoned on this word' : null },
      row < 0 ? rowName(column, row) : `“${rowName(column, row)}”`, poisoned ? ' poisoned' : ''),
    says ? node('span', { class: 'figure says-nothing' }, says) : null, ...numbers);
}

function numbers({ column, rows, context: { first, state, told }, screen }) {
  const values = column.numbers;
  const entries = column.given ? [['Shown', column.given, '', 'Not drawn by the model: the same picture and noise for all']] : [];
  if (values.clip_similarity !== undefined) {
    const { threshold } = values;
    const above = threshold === null || values.clip_similarity >= threshold;
    const beside = threshold === null ? '' : [` ${above ? '≥' : '<'} `, nameOf('τ', '', told), ` ${number(threshold)}`];
    entries.push(['CLIP similarity', [number(values.clip_similarity), beside], threshold === null ? '' : tone(above),
      'Cosine of picture and prompt in the extractor; τ is the 10th percentile of the benign control']);
    const sure = sureOf(column);
    const [seen, kind] = verdict(column, sure);
    entries.push(['Looks like', kind === 'bad' ? [seen, ' ', blameButton(column, screen)] : seen, kind,
      `The concept that the extractor takes the picture for. ✓: it was asked for, and the extractor is sure; ?: it was asked for, but it is not sure (${sureWords(sure)}); ✗: another one was asked for`]);
  }
  if (rows.length > 1) {
    const maps = rows.map((row) => chosenMap(column, row, first, state));
    entries.push(['Overlap of the words', number(maps.includes(null) ? null : overlap(maps)), '',
      'Mean cosine between the maps shown: 1 if those of all words have the same shape']);
  }
  return node('dl', { class: 'numbers' }, entries.map(([name, text, kind, title]) => node('div', {},
    node('dt', {}, nameOf(name, title, told)), node('dd', { class: kind, title }, text))));
}

// The film strip's bounds, by the same judge; by tau alone where the study has no strip, or the column no margin.
const sureOf = ({ sure, numbers: { margin, threshold } }) => surenessOf({ sure: margin === undefined ? undefined : sure }, threshold);

// What the judge takes the picture for, in words and how they are shown.
function verdict(column, sure) {
  const { top_concept: top, clip_similarity: fit, margin, rank } = column.numbers;
  if (!column.named.length) return [top, '']; // what would be right is not known
  if (!column.named.includes(top)) return [`${top} ✗${rank > 1 ? ` (the prompt comes ${ordinal(rank)})` : ''}`, 'bad'];
  return isClear({ fit, margin }, sure) ? [`${top} ✓`, 'good'] : [`${top} ?`, ''];
}

// As in Implosion: the control's own mistakes are no implosion.
function blameButton(column, screen) {
  const { model, given, graft, named: [concept] } = column;
  if (poisonKind(column) === 'benign' || given || graft || !concept) return null;
  return node('button', { type: 'button', class: 'plain-button not-in-talk', title: `Which training pairs are blamed for ${concept} by ${model}?`, onclick: () => screen.panel.open(model, concept) }, 'Blamed pairs');
}

const tone = (good) => (good ? 'good' : 'bad');

// A canvas whose drawing follows the zoom that all pictures share; drag or arrow keys to pan, ctrl and wheel to zoom.
function figure(label, screen, paint) {
  const { scale, x, y } = screen.zoom;
  const zoomed = scale > 1;
  const canvas = node('canvas', {
    width: CANVAS, height: CANVAS, role: zoomed ? 'application' : 'img', class: zoomed ? 'zoomed' : null, tabindex: zoomed ? 0 : null,
    'aria-label': zoomed ? `${label}, enlarged. Arrow keys move the part shown.` : label,
  });
  const context = canvas.getContext('2d');
  context.setTransform(scale, 0, 0, scale, x * CANVAS, y * CANVAS);
  paint(context, CANVAS, CANVAS).catch((error) => console.warn(`a picture could not be drawn: ${error.message}`));
  canvas.addEventListener('wheel', (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    screen.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX / canvas.clientWidth, event.offsetY / canvas.clientHeight);
  }, { passive: false });
  if (zoomed) {
    canvas.addEventListener('pointerdown', (event) => pan(event, canvas, screen));
    canvas.addEventListener('keydown', (event) => panByKey(event, screen));
  }
  return node('figure', {}, canvas);
}

function pan(event, canvas, screen) {
  if (event.button !== 0) return;
  const { clientX, clientY } = event;
  const { clientWidth, clientHeight } = canvas; // measured now: the first movement replaces this canvas
  const { x, y } = screen.zoom;
  const move = (moved) => screen.moveTo(x + (moved.clientX - clientX) / clientWidth, y + (moved.clientY - clientY) / clientHeight);
  const stop = () => {
    window.removeEventListener('pointermove', move);
    for (const end of ['pointerup', 'pointercancel']) window.removeEventListener(end, stop);
  };
  window.addEventListener('pointermove', move);
  for (const end of ['pointerup', 'pointercancel']) window.addEventListener(end, stop);
}

function panByKey(event, screen) {
  const direction = PANS[event.key];
  if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  screen.moveTo(screen.zoom.x + direction[0] * PAN_STEP, screen.zoom.y + direction[1] * PAN_STEP);
}
