// Cells of the film strip, cut from two sheets of pictures, and the strip as one picture to save.

import { here } from './address.js';
import { node } from './charts.js';
import { paintMap } from './maps.js';
import { cpLabel, targetWords } from './poison.js';

export async function loadSheets(film) {
  const load = async (url) => {
    const picture = new Image();
    picture.src = here(url);
    await picture.decode();
    return picture;
  };
  const [images, maps] = await Promise.all([load(film.images_url), load(film.maps_url)]);
  return { images, maps: coloured(maps) };
}

// The sheet of maps is grey on disk; colour it as the Compare screen colours maps.
function coloured(sheet) {
  const canvas = new OffscreenCanvas(sheet.naturalWidth, sheet.naturalHeight);
  const context = canvas.getContext('2d');
  context.drawImage(sheet, 0, 0);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const table = Array.from({ length: 256 }, (_, grey) => {
    const one = paintMap(Object.assign(new Float32Array([grey]), { width: 1, height: 1 }), 1, 255);
    return one.getContext('2d').getImageData(0, 0, 1, 1).data;
  });
  for (let i = 0; i < picture.data.length; i += 4) picture.data.set(table[picture.data[i]], i);
  context.putImageData(picture, 0, 0);
  return canvas;
}

export function drawCell(sheet, size, column, row, kind, title) {
  const canvas = node('canvas', { width: size, height: size, role: 'img', 'aria-label': `${kind === 'maps' ? 'Attention map of ' : ''}${title}` });
  canvas.getContext('2d').drawImage(sheet, column * size, row * size, size, size, 0, 0, size, size);
  return canvas;
}

const CELL = 128;
const GAP = 8;
const LEFT = 130;
const TOP = 50;

export function composeStrip(screen, rows) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const kinds = screen.state.contents === 'both' ? ['images', 'maps'] : [screen.state.contents];
  const height = kinds.length * CELL + GAP * 2;
  const canvas = document.createElement('canvas');
  canvas.width = LEFT + rows.length * (CELL + GAP) + GAP;
  canvas.height = TOP + screen.models.length * height + GAP;
  const context = canvas.getContext('2d');
  context.fillStyle = colour('--surface');
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  rows.forEach((row, at) => {
    context.fillStyle = colour(row.poisoned_from === null ? '--benign' : '--poisoned');
    context.font = '600 15px system-ui, sans-serif';
    context.fillText(row.concept, LEFT + at * (CELL + GAP), TOP - 28, CELL);
    context.font = '12px system-ui, sans-serif';
    context.fillText(targetWords(row), LEFT + at * (CELL + GAP), TOP - 12, CELL);
  });
  context.font = '600 15px system-ui, sans-serif';
  screen.models.forEach((model, column) => {
    const top = TOP + column * height;
    const { kind, words, name } = cpLabel(model, screen.models);
    context.fillStyle = colour(`--${kind}`);
    context.fillText(words, GAP, top + 24, LEFT - 2 * GAP);
    context.fillText(name, GAP, top + 44, LEFT - 2 * GAP);
    rows.forEach((row, at) => kinds.forEach((contents, line) => {
      const size = screen.film.cell;
      context.drawImage(screen.sheets[contents], column * size, row.row * size, size, size, LEFT + at * (CELL + GAP), top + line * CELL, CELL, CELL);
    }));
  });
  return canvas;
}
