// The film strip as an SVG for slides: texts stay texts, every cell is a picture of its own.

import { stripPicture } from './implosion_picture.js';
import { addColours } from './maps.js';

const escaped = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);

export function composeSvg(screen, rows, settings) {
  const { width, height, surface, parts } = stripPicture(screen, rows);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif">`
    + `<title>Implosion, seed ${escaped(settings.seed)}</title><metadata>${escaped(JSON.stringify(settings))}</metadata>`
    + `<style>image { image-rendering: pixelated; }</style><defs><linearGradient id="attention">${stops()}</linearGradient></defs>`
    + `<rect width="100%" height="100%" fill="${surface}"/>${parts.map((part) => WRITE[part.kind](part, screen)).join('')}</svg>`;
}

// What has no room is drawn narrower, as a canvas does it by itself, so that it does not run into what stands beside it.
function squeezed({ words, size, weight, width }) {
  const context = new OffscreenCanvas(1, 1).getContext('2d');
  context.font = `${weight} ${size}px system-ui, sans-serif`;
  return context.measureText(words).width > width ? ` textLength="${width}" lengthAdjust="spacingAndGlyphs"` : '';
}

const WRITE = {
  text: (part) => `<text x="${part.x}" y="${part.y}" fill="${part.fill}" font-size="${part.size}" font-weight="${part.weight}"${squeezed(part)}>${escaped(part.words)}</text>`,
  cell: ({ x, y, side, sheet, column, row }, screen) => `<image x="${x}" y="${y}" width="${side}" height="${side}" href="${cellPicture(screen, sheet, column, row)}"/>`,
  frame: ({ x, y, side, stroke }) => `<rect x="${x + 1.5}" y="${y + 1.5}" width="${side - 3}" height="${side - 3}" fill="none" stroke="${stroke}" stroke-width="3"/>`,
  box: ({ x, y, width, height, fill }) => `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}"/>`,
  bar: ({ x, y, width, height }) => `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="url(#attention)"/>`,
};

function stops() {
  const found = [];
  addColours({ addColorStop: (at, colour) => found.push(`<stop offset="${at}" stop-color="${colour}"/>`) }, false);
  return found.join('');
}

function cellPicture(screen, kind, column, row) {
  const size = screen.film.cell;
  const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
  canvas.getContext('2d').drawImage(screen.sheets[kind], column * size, row * size, size, size, 0, 0, size, size);
  return canvas.toDataURL('image/png');
}
