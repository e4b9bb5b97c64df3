// A map as a picture to save: what it is of and its legend, as on the page, above it.

import { studyShown } from './address.js';
import { node, theme } from './charts.js';
import { legendOf } from './graph_colours.js';
import { savePng } from './png.js';

const [EDGE, TITLE, LINE, GAP, SWATCH] = [10, 46, 20, 16, 12];
const SCALE = 140;
const FONT = '13px system-ui, sans-serif';

export function saveMap({ canvas, overlay, ratio, width, title, side, data, display }) {
  const { colouring, focus, active } = display;
  const { set, layout, sampling } = data.header;
  const legend = [...legendOf(data, colouring, focus), ...(active ? [{ words: 'grey: not selected', note: true }] : [])];
  const picture = node('canvas', {});
  const context = picture.getContext('2d');
  const entries = placed(context, legend, width);
  const head = entries.at(-1).y + EDGE;
  const colours = theme();
  Object.assign(picture, { width: canvas.width, height: canvas.height + Math.round(head * ratio) });
  context.fillStyle = colours.surface;
  context.fillRect(0, 0, picture.width, picture.height);
  for (const layer of [canvas, overlay]) context.drawImage(layer, 0, picture.height - canvas.height);
  context.scale(ratio, ratio);
  context.fillStyle = colours.text;
  context.font = `600 ${FONT}`;
  context.fillText(`${title}; ${set.name}, ${studyShown()}`, EDGE, 22, width - 2 * EDGE);
  context.font = FONT;
  for (const entry of entries) drawEntry(context, entry, colours);
  const words = legend.map((entry) => entry.words).filter(Boolean);
  savePng(picture, { chart: `${side}-graph`, study: studyShown(), link: location.href, set, sampling, layout, colouring, legend: words }, `${side}-graph.png`);
}

// The entries one after the other, in as many lines as they take.
function placed(context, legend, width) {
  context.font = FONT;
  let [x, y] = [EDGE, TITLE];
  return legend.map((entry) => {
    const wide = entry.scale ? SCALE : context.measureText(entry.words).width + (entry.swatch ? SWATCH + 6 : 0);
    if (x > EDGE && x + wide > width - EDGE) [x, y] = [EDGE, y + LINE];
    const at = { ...entry, x, y };
    x += wide + GAP;
    return at;
  });
}

function drawEntry(context, { words, kind, note, swatch, scale, x, y }, colours) {
  if (scale) {
    const gradient = context.createLinearGradient(x, 0, x + SCALE, 0);
    scale.forEach(([at, colour]) => gradient.addColorStop(at, colour));
    context.fillStyle = gradient;
    context.fillRect(x, y - 10, SCALE, SWATCH);
    return;
  }
  if (swatch) {
    context.fillStyle = swatch;
    context.fillRect(x, y - 10, SWATCH, SWATCH);
  }
  context.fillStyle = kind ? colours[kind] : note ? colours.subdued : colours.text;
  context.fillText(words, swatch ? x + SWATCH + 6 : x, y);
}
