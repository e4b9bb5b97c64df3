// The columns as one picture to save: heads, pictures and maps, with the prompt above.

import { SENTENCES, UNITS } from './compare_kinds.js';
import { addColours } from './maps.js';
import { tagOf, titleOf } from './graft_names.js';
import { PAIR_KINDS, poisonKind } from './poison.js';

const CELL = 256;
const GAP = 16;
const HEAD = 112;
const BAR = [120, 12];
const CAPTION = 18; // a line under a picture
const LINES = 4; // of them, at most
const PICTURE_ROW = CELL + 12;
const MAP_ROW = CELL + LINES * CAPTION + 12;

export async function composePicture(screen, columns) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const canvas = document.createElement('canvas');
  canvas.width = columns.length * (CELL + GAP) + GAP;
  canvas.height = HEAD + 30 + PICTURE_ROW + screen.rows.length * MAP_ROW + GAP;
  const context = canvas.getContext('2d');
  context.fillStyle = colour('--surface');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour('--ink');
  context.font = '600 20px system-ui, sans-serif';
  const { prompt, seed, steps, guidance_scale: guidance } = columns[0].settings;
  context.fillText(prompt, GAP, 30, canvas.width - 2 * GAP);
  context.font = '13px system-ui, sans-serif';
  const { given } = columns[0];
  context.fillText(given ? `${given}, with noise of seed ${seed}` : `seed ${seed}, ${steps} steps, guidance ${guidance}`, GAP, 50, canvas.width - 2 * GAP);
  drawLegend(context, screen, colour);
  const articles = [...screen.grid.querySelectorAll('article[data-model]')];
  articles.forEach((article, at) => drawArticle(context, article, columns[at], GAP + at * (CELL + GAP), colour));
  return canvas;
}

// What the maps are, and their colours with both ends of the scale.
function drawLegend(context, screen, colour) {
  const { limit, state: { kind, view, scale } } = screen;
  const [signed, most] = [view === 'difference', context.canvas.width - 2 * GAP];
  const top = scale === 'absolute' ? limit.toPrecision(2) : 'largest of each map';
  const [low, high] = signed ? [`−${top}`, `+${top}`] : ['0', top];
  context.fillText(`${SENTENCES[kind][0]}${signed ? ' Shown: the difference to the first column.' : ''}`, GAP, 72, most);
  context.fillText(low, GAP, 96);
  const left = GAP + context.measureText(low).width + 8;
  context.fillStyle = addColours(context.createLinearGradient(left, 0, left + BAR[0], 0), signed);
  context.fillRect(left, 86, ...BAR);
  context.fillStyle = colour('--ink');
  context.fillText(`${high}   ${UNITS[kind]}`, left + BAR[0] + 8, 96, most - left - BAR[0]);
}

function drawArticle(context, article, column, left, colour) {
  const kind = poisonKind(column);
  context.fillStyle = colour({ poisoned: '--poisoned', benign: '--benign', unrecorded: '--ink-soft' }[kind]);
  context.font = '600 15px system-ui, sans-serif';
  context.fillText(`${PAIR_KINDS[kind].mark} ${titleOf(column)}  ${tagOf(column)}`, left, HEAD + 22, CELL);
  article.querySelectorAll('figure, .no-map').forEach((figure, row) => {
    const top = HEAD + 30 + (row ? PICTURE_ROW + (row - 1) * MAP_ROW : 0);
    if (figure.matches('.no-map')) { context.fillText(figure.textContent, left, top + 18, CELL); return; }
    context.drawImage(figure.querySelector('canvas'), left, top, CELL, CELL);
    context.font = '13px system-ui, sans-serif';
    context.fillStyle = colour('--ink');
    const parts = [...(figure.querySelector('figcaption')?.children ?? [])].map((part) => part.textContent);
    linesOf(context, parts).forEach((line, at) => context.fillText(line, left, top + CELL + (at + 1) * CAPTION, CELL));
  });
}

// As many of the parts side by side as are not wider than a picture; the last line takes what is left.
function linesOf(context, parts) {
  const lines = [];
  for (const part of parts) {
    const longer = lines.length ? `${lines.at(-1)}   ${part}` : part;
    if (lines.length && (lines.length === LINES || context.measureText(longer).width <= CELL)) lines[lines.length - 1] = longer;
    else lines.push(part);
  }
  return lines;
}
