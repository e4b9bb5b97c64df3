// The film strip as an SVG for slides: texts stay texts, every cell is a picture of its own.

import { cpLabel, targetWords } from './poison.js';

const CELL = 128;
const GAP = 8;
const LEFT = 130;
const TOP = 50;

const escaped = (text) => String(text).replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);

export function composeSvg(screen, rows, settings) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const kinds = screen.state.contents === 'both' ? ['images', 'maps'] : [screen.state.contents];
  const height = kinds.length * CELL + GAP * 2;
  const size = [LEFT + rows.length * (CELL + GAP) + GAP, TOP + screen.models.length * height + GAP];
  const text = (x, y, fill, words, more = '') => `<text x="${x}" y="${y}" fill="${fill}"${more}>${escaped(words)}</text>`;
  const parts = rows.flatMap((row, at) => [[row.concept, 28, ''], [targetWords(row), 12, ' font-size="12" font-weight="400"']].map(
    ([words, above, more]) => text(LEFT + at * (CELL + GAP), TOP - above, colour(row.poisoned_from === null ? '--benign' : '--poisoned'), words, more)));
  screen.models.forEach((model, column) => {
    const top = TOP + column * height;
    const { kind, words, name } = cpLabel(model, screen.models);
    parts.push(text(GAP, top + 24, colour(`--${kind}`), words), text(GAP, top + 44, colour(`--${kind}`), name));
    rows.forEach((row, at) => kinds.forEach((contents, line) => {
      const place = `x="${LEFT + at * (CELL + GAP)}" y="${top + line * CELL}" width="${CELL}" height="${CELL}"`;
      parts.push(`<image ${place} href="${cellPicture(screen, contents, column, row.row)}"/>`);
    }));
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${size[0]}" height="${size[1]}" viewBox="0 0 ${size.join(' ')}" `
    + 'font-family="system-ui, sans-serif" font-size="15" font-weight="600">'
    + `<title>Implosion, seed ${escaped(settings.seed)}</title><metadata>${escaped(JSON.stringify(settings))}</metadata>`
    + '<style>image { image-rendering: pixelated; }</style>'
    + `<rect width="100%" height="100%" fill="${colour('--surface')}"/>${parts.join('')}</svg>`;
}

function cellPicture(screen, kind, column, row) {
  const size = screen.film.cell;
  const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
  canvas.getContext('2d').drawImage(screen.sheets[kind], column * size, row * size, size, size, 0, 0, size, size);
  return canvas.toDataURL('image/png');
}
