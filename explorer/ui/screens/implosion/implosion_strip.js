// Cells of the film strip, cut from its sheets: one of pictures, and one of each kind of map.

import { here } from './address.js';
import { node } from './charts.js';
import { isUniform } from './compare_kinds.js';
import { paintMap } from './maps.js';

const WHITE = 255; // the top of the sheet's one scale

export const FLAT = 'the same everywhere: this map says nothing';
export const KINDS = [['images', 'Pictures', ''], ['maps', 'Attention', 'Attention map of '], ['guidance', 'Guidance', 'Guidance map of ']];

// The sheets by kind, coloured, and `flat`: of every model whether its map of each concept is the same everywhere.
export async function loadSheets(film) {
  const load = async (url) => {
    const picture = new Image();
    picture.src = here(url);
    await picture.decode();
    return picture;
  };
  const loaded = await Promise.all(Object.entries(film.sheets).map(async ([kind, url]) => [kind, await load(url)]));
  const sheets = Object.fromEntries(loaded.map(([kind, picture]) => [kind, kind === 'images' ? picture : contextOf(picture)]));
  const context = sheets.maps;
  // As `_is_flat` of `explorer/generation/film_export.py`. Scatter is rounded, and is 1 for maps that still vary by some
  // percent; the sheet is rounded on one scale for all, and has faint maps without their shape. Only both together say it.
  const flat = film.models.map(({ cells }, column) => cells.map(({ scatter }, row) => scatter >= 1 && isUniform(greysOf(context, film.cell, column, row), WHITE)));
  for (const [kind] of loaded) if (kind !== 'images') sheets[kind] = coloured(sheets[kind]);
  return { ...sheets, flat };
}

function contextOf(picture) {
  const context = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight).getContext('2d', { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context;
}

const greysOf = (context, size, column, row) => context.getImageData(column * size, row * size, size, size).data.filter((_, at) => at % 4 === 0);

// A sheet of maps is grey on disk; colour it as the Compare screen colours maps.
function coloured(context) {
  const { canvas } = context;
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
  const canvas = node('canvas', { width: size, height: size, role: 'img', 'aria-label': `${KINDS.find(([name]) => name === kind)[2]}${title}` });
  canvas.getContext('2d').drawImage(sheet, column * size, row * size, size, size, 0, 0, size, size);
  return canvas;
}
