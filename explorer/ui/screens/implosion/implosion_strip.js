// Cells of the film strip, cut from two sheets of pictures.

import { here } from './address.js';
import { node } from './charts.js';
import { isUniform } from './compare_kinds.js';
import { paintMap } from './maps.js';

const WHITE = 255; // the top of the sheet's one scale

export const FLAT = 'the same everywhere: this map says nothing';

// {images, maps, flat}: both sheets, and of every model whether its map of each concept is the same everywhere.
export async function loadSheets(film) {
  const load = async (url) => {
    const picture = new Image();
    picture.src = here(url);
    await picture.decode();
    return picture;
  };
  const [images, maps] = await Promise.all([load(film.images_url), load(film.maps_url)]);
  const context = new OffscreenCanvas(maps.naturalWidth, maps.naturalHeight).getContext('2d', { willReadFrequently: true });
  context.drawImage(maps, 0, 0);
  // As `_is_flat` of `explorer/generation/film_export.py`. Scatter is rounded, and is 1 for maps that still vary by some
  // percent; the sheet is rounded on one scale for all, and has faint maps without their shape. Only both together say it.
  const flat = film.models.map(({ cells }, column) => cells.map(({ scatter }, row) => scatter >= 1 && isUniform(greysOf(context, film.cell, column, row), WHITE)));
  return { images, maps: coloured(context), flat };
}

const greysOf = (context, size, column, row) => context.getImageData(column * size, row * size, size, size).data.filter((_, at) => at % 4 === 0);

// The sheet of maps is grey on disk; colour it as the Compare screen colours maps.
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
  const canvas = node('canvas', { width: size, height: size, role: 'img', 'aria-label': `${kind === 'maps' ? 'Attention map of ' : ''}${title}` });
  canvas.getContext('2d').drawImage(sheet, column * size, row * size, size, size, 0, 0, size, size);
  return canvas;
}
