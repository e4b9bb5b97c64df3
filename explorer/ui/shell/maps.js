// Maps in the browser: decoding what is kept in 8 bits, the numbers of a map, and drawing it.
// Index 0 of steps, layers and heads is the mean over that axis.

const SEQUENTIAL = [ // perceptually even, dark to bright, told apart by colour-blind people (inferno)
  [0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164],
];
const DIVERGING = [[33, 102, 172], [103, 169, 207], [209, 229, 240], [247, 247, 247], [253, 219, 199], [239, 138, 98], [178, 24, 43]];

function bytes(text) {
  const binary = atob(text);
  const result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) result[i] = binary.charCodeAt(i);
  return result;
}

export function decodeColumn(payload) {
  const stacks = payload.stacks.map((stack) => ({
    shape: stack.shape, layers: stack.layers, values: bytes(stack.values),
    scales: new Float32Array(bytes(stack.scales).buffer),
  }));
  const sensitivity = new Map(Object.entries(payload.sensitivity).map(([word, measured]) => [Number(word), decodeSensitivity(measured)]));
  const mask = payload.mask && { shape: payload.mask.shape, values: bytes(payload.mask.values) };
  return { ...payload, stacks, mask, guidance: payload.guidance && decodeSteps(payload.guidance), sensitivity };
}

// Maps over steps, as `readMap` gives one.
function decodeSteps({ shape: [count, height, width], values, scales }) {
  const [units, tops] = [bytes(values), new Float32Array(bytes(scales).buffer)];
  return Array.from({ length: count }, (_, at) => {
    const map = Float32Array.from(units.subarray(at * height * width, (at + 1) * height * width), (unit) => unit * tops[at]);
    return Object.assign(map, { height, width });
  });
}

// What one word changes, by step (from 0): the map, and every draw's amplitude.
export function decodeSensitivity(measured) {
  const maps = decodeSteps(measured);
  return new Map(measured.steps.map((step, at) => [step, { step, map: maps[at], draws: measured.draws[at] }]));
}

// Where `column` keeps the maps that `state` chooses in `first`: the same size, layer and head, found by their names, not
// by their places, since models of other families have others. Null where it has none. The first entry, the mean of each
// model's usual layers, is every model's own.
export function placeIn(column, first, state) {
  if (state.stack === 0 && state.layer === 0) return state.head < column.stacks[0].shape[2] ? state : null;
  const wanted = first.stacks[Math.min(state.stack, first.stacks.length - 1)];
  const size = (found) => found.shape.slice(4).join('x');
  const stack = column.stacks.findIndex((found) => size(found) === size(wanted));
  if (stack < 0 || state.head >= column.stacks[stack].shape[2]) return null;
  const layer = state.layer && column.stacks[stack].layers.indexOf(wanted.layers[state.layer - 1]) + 1;
  return state.layer && !layer ? null : { ...state, stack, layer };
}

// Probabilities of one word's map, Float32Array [h * w], with .height and .width.
export function readMap(column, { stack, layer, step, head }, word) {
  const { shape, values, scales } = column.stacks[Math.min(stack, column.stacks.length - 1)];
  const [steps, layers, heads, words, height, width] = shape;
  const at = (((Math.min(step, steps - 1) * layers + Math.min(layer, layers - 1)) * heads) + Math.min(head, heads - 1)) * words + word;
  const map = new Float32Array(height * width);
  for (let i = 0; i < map.length; i += 1) map[i] = values[at * map.length + i] * scales[at];
  return Object.assign(map, { height, width });
}

const sum = (map) => map.reduce((total, value) => total + value, 0);

// Spatial entropy over its maximum: 0 is one position, 1 is uniform noise. Null for a map without mass.
export function scatter(map) {
  const total = sum(map);
  if (total === 0) return null;
  let entropy = 0;
  for (const value of map) if (value > 0) entropy -= (value / total) * Math.log(value / total);
  return entropy / Math.log(map.length);
}

// Geary's C, as explorer.attention.statistics.gearys_c: near 0 a smooth blob, 1 scattered noise (or a
// constant map, which has no order). Null for a map without mass.
export function gearysC(map) {
  const { height, width } = map;
  const total = sum(map);
  if (total === 0) return null;
  const mean = 1 / map.length;
  let [squares, deviations] = [0, 0];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const value = map[y * width + x] / total;
      deviations += (value - mean) ** 2;
      if (x + 1 < width) squares += (map[y * width + x + 1] / total - value) ** 2;
      if (y + 1 < height) squares += (map[(y + 1) * width + x] / total - value) ** 2;
    }
  }
  const variance = deviations / (map.length - 1);
  if (variance <= (1e-6 / map.length) ** 2) return 1;
  return squares / (2 * (height * (width - 1) + width * (height - 1)) * variance);
}

// How much of each of `map`'s positions a picture's mask covers, as torch's adaptive_avg_pool2d.
export function coverage({ shape: [rows, columns], values }, { height, width }) {
  const covered = new Float32Array(height * width);
  const range = (at, count, total) => [Math.floor((at * total) / count), Math.ceil(((at + 1) * total) / count)];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [top, bottom] = range(y, height, rows);
      const [left, right] = range(x, width, columns);
      let inside = 0;
      for (let row = top; row < bottom; row += 1) for (let column = left; column < right; column += 1) inside += values[row * columns + column];
      covered[y * width + x] = inside / ((bottom - top) * (right - left));
    }
  }
  return covered;
}

// Share of a map's mass that lies in the mask, as explorer.attention.statistics.mass_in_mask; null without mass.
export function massInMask(map, covered) {
  const total = sum(map);
  return total === 0 ? null : map.reduce((inside, value, at) => inside + value * covered[at], 0) / total;
}

// As explorer.attention.statistics.overlap_with_mask; null where the mask has no position at the map's size.
export function overlapWithMask(map, covered) {
  const inside = Array.from(covered, (share) => share >= 0.5);
  const size = inside.filter(Boolean).length;
  if (size === 0) return null;
  const least = Float32Array.from(map).sort()[map.length - size];
  let [both, either] = [0, 0];
  map.forEach((value, at) => {
    both += value >= least && inside[at] ? 1 : 0;
    either += value >= least || inside[at] ? 1 : 0;
  });
  return both / either;
}

export const mass = (map) => sum(map) / map.length;

// Mean cosine between every two maps; null for fewer than two, or one without mass.
export function overlap(maps) {
  if (maps.length < 2) return null;
  let total = 0;
  let pairs = 0;
  for (let i = 0; i < maps.length; i += 1) {
    for (let j = i + 1; j < maps.length; j += 1) {
      let [dot, first, second] = [0, 0, 0];
      for (let k = 0; k < maps[i].length; k += 1) {
        dot += maps[i][k] * maps[j][k];
        first += maps[i][k] ** 2;
        second += maps[j][k] ** 2;
      }
      if (first === 0 || second === 0) return null;
      total += dot / Math.sqrt(first * second);
      pairs += 1;
    }
  }
  return total / pairs;
}

function colourAt(palette, share) {
  const place = Math.max(0, Math.min(1, share)) * (palette.length - 1);
  const low = Math.min(Math.floor(place), palette.length - 2);
  return palette[low].map((value, channel) => value + (palette[low + 1][channel] - value) * (place - low));
}

export const gradient = (signed) => `linear-gradient(90deg, ${(signed ? DIVERGING : SEQUENTIAL)
  .map((colour) => `rgb(${colour.join(',')})`).join(',')})`;

// The same on a canvas: `fill` is a CanvasGradient.
export function addColours(fill, signed) {
  const palette = signed ? DIVERGING : SEQUENTIAL;
  palette.forEach((colour, at) => fill.addColorStop(at / (palette.length - 1), `rgb(${colour.join(',')})`));
  return fill;
}

// Bilinear enlargement of the numbers (not of the colours), then colour. `limit` is the top of the scale.
export function paintMap(map, size, limit, { signed = false, alpha = false } = {}) {
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext('2d');
  const picture = context.createImageData(size, size);
  const palette = signed ? DIVERGING : SEQUENTIAL;
  const table = Array.from({ length: 256 }, (_, i) => colourAt(palette, i / 255));
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const value = sample(map, ((x + 0.5) / size) * map.width - 0.5, ((y + 0.5) / size) * map.height - 0.5);
      const share = limit > 0 ? Math.max(signed ? -1 : 0, Math.min(1, value / limit)) : 0;
      const colour = table[Math.round((signed ? (share + 1) / 2 : share) * 255)];
      const place = (y * size + x) * 4;
      picture.data.set(colour, place);
      picture.data[place + 3] = alpha ? 255 * Math.min(0.85, 1.1 * Math.abs(share)) : 255;
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

function sample(map, x, y) {
  const clampX = Math.max(0, Math.min(map.width - 1, x));
  const clampY = Math.max(0, Math.min(map.height - 1, y));
  const [left, top] = [Math.floor(clampX), Math.floor(clampY)];
  const [right, bottom] = [Math.min(left + 1, map.width - 1), Math.min(top + 1, map.height - 1)];
  const [fx, fy] = [clampX - left, clampY - top];
  const row = (line) => map[line * map.width + left] * (1 - fx) + map[line * map.width + right] * fx;
  return row(top) * (1 - fy) + row(bottom) * fy;
}
