// Cells of the film strip, cut from two sheets of pictures.

import { here } from './address.js';
import { node } from './charts.js';
import { paintMap } from './maps.js';

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
