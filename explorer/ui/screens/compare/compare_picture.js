// The columns as one picture to save: what was drawn and how, what the maps are of, and under every column what the page
// says of it.

import { SENTENCES, UNITS } from './compare_kinds.js';
import { addColours } from './maps.js';
import { tagOf, titleOf } from './graft_names.js';
import { PAIR_KINDS, poisonKind } from './poison.js';
import { Lines, placed, wrapped } from './text_lines.js';

const CELL = 256;
const GAP = 16;
const BAR = [120, 12];

export async function composePicture(screen, columns) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const canvas = document.createElement('canvas');
  canvas.width = columns.length * (CELL + GAP) + GAP;
  const context = canvas.getContext('2d');
  const head = headOf(context, screen, columns[0], canvas.width - 2 * GAP);
  const articles = [...screen.grid.querySelectorAll('article[data-model]')];
  const cells = columns.map((column, at) => cellOf(context, articles[at], column));
  const rows = placed(cells, head.height + (screen.limit > 0 ? 30 : 10), CELL);
  canvas.height = rows.at(-1).bottom + GAP;
  context.fillStyle = colour('--surface');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour('--ink');
  head.draw(context, GAP, 0);
  if (screen.limit > 0) drawLegend(context, screen, head.height + 8, colour);
  cells.forEach((cell, at) => drawCell(context, cell, rows, GAP + at * (CELL + GAP), colour));
  return canvas;
}

// Prompt, settings, and what the maps show.
function headOf(context, screen, { given, settings }, width) {
  const { kind, view } = screen.state;
  const { prompt, negative_prompt: negative, seed, steps, guidance_scale: guidance } = settings;
  const says = [given ? `${given}, with noise of seed ${seed}` : `seed ${seed}, ${steps} steps, guidance ${guidance}`,
    negative && !given ? `negative prompt: ${negative}` : null,
    `${SENTENCES[kind][0]}${view === 'difference' ? ' Shown: the difference to the first column.' : ''}`,
    `${screen.controls.chosen().map(([name, value]) => `${name}: ${value}`).join('   ')}`];
  const lines = new Lines(10);
  lines.add(wrapped(context, prompt, width, 'title'), 'title');
  for (const text of says.filter(Boolean)) lines.add(wrapped(context, text, width, 'plain'), 'plain');
  return lines;
}

// The colours of the maps, with both ends of the scale.
function drawLegend(context, screen, top, colour) {
  const { limit, state: { kind, view, scale } } = screen;
  const [signed, most] = [view === 'difference', context.canvas.width - 2 * GAP];
  const end = scale === 'absolute' ? limit.toPrecision(2) : 'largest of each map';
  const [low, high] = signed ? [`−${end}`, `+${end}`] : ['0', end];
  context.fillText(low, GAP, top + 10);
  const left = GAP + context.measureText(low).width + 8;
  context.fillStyle = addColours(context.createLinearGradient(left, 0, left + BAR[0], 0), signed);
  context.fillRect(left, top, ...BAR);
  context.fillStyle = colour('--ink');
  context.fillText(`${high}   ${UNITS[kind]}`, left + BAR[0] + 8, top + 10, most - left - BAR[0]);
}

// What is drawn of a column, in rows: its name, its picture with the judgement, its maps with their numbers.
function cellOf(context, article, column) {
  const kind = poisonKind(column);
  const name = new Lines(6);
  name.add(wrapped(context, `${PAIR_KINDS[kind].mark} ${titleOf(column)}`, CELL, 'name'), 'name');
  name.add(wrapped(context, tagOf(column), CELL, 'plain'), 'plain');
  const judgement = [...article.querySelectorAll('.numbers > div')].map(wordsOf);
  const figures = [...article.querySelectorAll('figure, .no-map')].map((figure, at) => {
    const said = new Lines(0);
    const parts = [...figure.querySelector('figcaption')?.children ?? []].map(partOf);
    const texts = at ? [figure.matches('.no-map') ? figure.textContent : parts.join('   ')] : judgement;
    for (const text of texts) said.add(wrapped(context, text, CELL, 'plain'), 'plain');
    return { picture: figure.querySelector('canvas'), said };
  });
  return { name, figures, accent: { poisoned: '--poisoned', benign: '--benign', unrecorded: '--ink-soft' }[kind] };
}

// A number's name and value as on the page; what can be pressed there cannot be pressed here.
function wordsOf(row) {
  const copy = row.cloneNode(true);
  for (const button of copy.querySelectorAll('button')) button.remove();
  return [...copy.children].map((part) => part.textContent.trim()).join(': ');
}

// A part of a caption: a number stays beside its name.
const partOf = (part) => (part.matches('.figure:not(.says-nothing)') ? part.textContent.replaceAll(' ', '\u00a0') : part.textContent);

function drawCell(context, { name, figures, accent }, rows, left, colour) {
  context.fillStyle = colour(accent);
  name.draw(context, left, rows[0].top);
  context.fillStyle = colour('--ink');
  figures.forEach(({ picture, said }, at) => {
    const { top } = rows[at + 1];
    if (picture) context.drawImage(picture, left, top, CELL, CELL);
    said.draw(context, left, picture ? top + CELL : top);
  });
}
