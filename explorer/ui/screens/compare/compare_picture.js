// The columns as one picture to save: heads, pictures and maps, with the prompt above.

import { poisonKind, poisonWords } from './poison.js';

const CELL = 256;
const GAP = 16;
const HEAD = 56;

export async function composePicture(screen, columns) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const rows = 1 + screen.rows.length;
  const canvas = document.createElement('canvas');
  canvas.width = columns.length * (CELL + GAP) + GAP;
  canvas.height = HEAD + 30 + rows * (CELL + 30) + GAP;
  const context = canvas.getContext('2d');
  context.fillStyle = colour('--surface');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour('--ink');
  context.font = '600 20px system-ui, sans-serif';
  const { prompt, seed, steps, guidance_scale: guidance } = columns[0].settings;
  context.fillText(prompt, GAP, 30, canvas.width - 2 * GAP);
  context.font = '13px system-ui, sans-serif';
  context.fillText(`seed ${seed}, ${steps} steps, guidance ${guidance}`, GAP, 50, canvas.width - 2 * GAP);
  const articles = [...screen.grid.querySelectorAll('article[data-model]')];
  articles.forEach((article, at) => drawArticle(context, article, columns[at], GAP + at * (CELL + GAP), colour));
  return canvas;
}

function drawArticle(context, article, column, left, colour) {
  const kind = poisonKind(column);
  context.fillStyle = colour({ poisoned: '--poisoned', benign: '--benign', unrecorded: '--ink-soft' }[kind]);
  context.font = '600 15px system-ui, sans-serif';
  context.fillText(`${column.model}${kind === 'benign' ? '' : `  ${poisonWords(column)}`}`, left, HEAD + 22, CELL);
  article.querySelectorAll('figure').forEach((figure, row) => {
    const top = HEAD + 30 + row * (CELL + 30);
    context.drawImage(figure.querySelector('canvas'), left, top, CELL, CELL);
    context.font = '13px system-ui, sans-serif';
    context.fillStyle = colour('--ink');
    const parts = [...(figure.querySelector('figcaption')?.children ?? [])];
    context.fillText(parts.map((part) => part.textContent).join('   '), left, top + CELL + 18, CELL);
  });
}
