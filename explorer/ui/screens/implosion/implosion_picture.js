// The film strip as one picture to save: what stands where, for a PNG and for an SVG alike, with prompt, seed, models,
// what the marks mean, and the colours of the maps. Poison is told by its mark and its frame, not by colour alone.

import { number } from './charts.js';
import { kindsOf, mapMark, marksShown, verdictOf } from './implosion_film.js';
import { addColours } from './maps.js';
import { PAIR_KINDS, aimOf, aimsAt, cpLabel } from './poison.js';

const [CELL, GAP, LEFT, TOP, CAPTION, BOTTOM] = [128, 8, 130, 104, 20, 50];
const [BAR, BAR_LEFT] = [[120, 12], 168];
const LINE = 18; // of the legend
const [MARK, MARK_GROUND, MARK_INK] = [[40, 18], '#000000', '#ffffff']; // read on every colour of a map, in both themes
const LEGEND = 'Frame and ◆: poisoned in this model. ●: benign, or not targeted by any poison.';

// {width, height, parts}: every part is a `text` {x, y, words, fill, size, weight, width}, a `cell` {x, y, side, sheet,
// column, row}, a `frame` {x, y, side, stroke}, a `box` {x, y, width, height, fill} or a `bar` {x, y, width, height}.
export function stripPicture(screen, rows) {
  const style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  const kinds = kindsOf(screen.state.contents);
  const high = kinds.length * CELL + CAPTION + GAP;
  const width = Math.max(LEFT + rows.length * (CELL + GAP) + GAP, 640);
  const below = [...kinds.filter((kind) => SCALES[kind]).map((kind) => [kind]), ...marksShown(screen, rows)];
  const height = TOP + screen.models.length * high + BOTTOM + below.length * LINE;
  const context = { screen, rows, kinds, high, width, height, colour, below };
  const parts = [...head(context), ...rows.flatMap((row, at) => conceptParts(context, row, at)),
    ...screen.models.flatMap((model, column) => modelParts(context, model, column)), ...foot(context)];
  return { width, height, surface: colour('--surface'), parts };
}

const SCALES = { maps: ['attention to the noun', 'map_scale'], guidance: ['guidance', 'guidance_map_scale'] };

const text = (x, y, words, fill, more = {}) => ({ kind: 'text', x, y, words, fill, size: 15, weight: 600, ...more });

function head({ screen: { film }, width, colour }) {
  const most = width - 2 * GAP;
  return [
    text(GAP, 24, film.prompt.replace('{phrase}', '…'), colour('--ink'), { size: 17, width: most }),
    text(GAP, 44, `seed ${film.seed}, ${film.steps} steps, guidance ${film.guidance_scale}; the same noise everywhere`, colour('--ink-soft'), { size: 12, weight: 400, width: most }),
  ];
}

function conceptParts({ screen, colour }, row, at) {
  const { kind, words } = aimOf(row.concept, row.poisoned_from, screen.models);
  const [x, fill] = [LEFT + at * (CELL + GAP), colour(kind === 'unrecorded' ? '--ink-soft' : `--${kind}`)];
  return [text(x, TOP - 28, row.concept, fill, { width: CELL }),
    text(x, TOP - 12, `${PAIR_KINDS[kind].mark} ${words}`, fill, { size: 12, weight: 400, width: CELL })];
}

function modelParts({ screen, rows, kinds, high, colour }, model, column) {
  const top = TOP + column * high;
  const { kind, words } = cpLabel(model, screen.models);
  const fill = colour(kind === 'unrecorded' ? '--ink-soft' : `--${kind}`);
  return [text(GAP, top + 24, `${PAIR_KINDS[kind].mark} ${words}`, fill, { width: LEFT - 2 * GAP }),
    text(GAP, top + 44, model.name, colour('--ink-soft'), { size: 12, weight: 400, width: LEFT - 2 * GAP }),
    ...rows.flatMap((row, at) => cellParts({ screen, kinds, colour }, model, column, row, LEFT + at * (CELL + GAP), top))];
}

function cellParts({ screen, kinds, colour }, model, column, row, x, top) {
  const poisoned = aimsAt(model, row.concept);
  const verdict = verdictOf(model.cells[row.row], row.concept, screen.sure);
  const parts = kinds.flatMap((sheet, line) => {
    const place = { x, y: top + line * CELL, side: CELL };
    const { word } = mapMark(screen, sheet, column, row.row);
    return [{ kind: 'cell', sheet, column, row: row.row, ...place }, ...(poisoned ? [{ kind: 'frame', stroke: colour('--poisoned'), ...place }] : []), ...(word ? markOn(place, word) : [])];
  });
  const fill = verdict && colour({ good: '--good', bad: '--bad', doubt: '--ink-soft' }[verdict.kind]);
  return [...parts, ...(verdict ? [text(x, top + kinds.length * CELL + 15, verdict.words, fill, { size: 12, weight: 400, width: CELL })] : [])];
}

// In a map's lower left corner.
function markOn({ x, y, side }, word) {
  const [width, height] = MARK;
  const [left, top] = [x + 5, y + side - 5 - height];
  return [{ kind: 'box', x: left, y: top, width, height, fill: MARK_GROUND }, text(left + 6, top + 13, word, MARK_INK, { size: 12, width: width - 8 })];
}

function foot({ screen, rows, width, height, colour, below }) {
  const [soft, most] = [colour('--ink-soft'), width - 2 * GAP];
  const small = (x, y, words) => text(x, y, words, soft, { size: 12, weight: 400, width: most - x + GAP });
  const judged = screen.film.models[0].cells[0].top_concept !== undefined;
  const bounds = screen.sure === null ? '' : ` (✓ from fit ${number(screen.sure.fit, 2)}${screen.sure.margin === null ? '' : `, ${number(screen.sure.margin, 2)} before the next noun`})`;
  const verdicts = `Judge: ✓ named first, surely, ? named first in doubt, ✗ taken for another${bounds}.`;
  const marked = [...rows.map((row) => aimOf(row.concept, row.poisoned_from, screen.models)), ...screen.models.map((model) => cpLabel(model, screen.models))];
  const unrecorded = marked.some(({ kind }) => kind === 'unrecorded') ? ' ■: not recorded.' : '';
  const top = height - below.length * LINE;
  return [small(GAP, top - 28, `${LEGEND}${unrecorded}`), ...(judged ? [small(GAP, top - 10, verdicts)] : []),
    ...below.flatMap(([word, why], at) => {
      const y = top + at * LINE + 8;
      if (why !== undefined) return [small(GAP, y, `${word}: ${why}`)];
      const [name, scale] = SCALES[word];
      return [small(GAP, y, `${name}: 0`), { kind: 'bar', x: BAR_LEFT, y: y - 10, width: BAR[0], height: BAR[1] },
        small(BAR_LEFT + BAR[0] + 8, y, `${number(screen.film[scale])}, one scale for all maps`)];
    })];
}

// The picture drawn, for a PNG.
export function drawStrip(screen, rows) {
  const { width, height, surface, parts } = stripPicture(screen, rows);
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d');
  context.fillStyle = surface;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  for (const part of parts) DRAW[part.kind](context, part, screen);
  return canvas;
}

const DRAW = {
  text(context, { x, y, words, fill, size, weight, width }) {
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.fillStyle = fill;
    context.fillText(words, x, y, width);
  },
  cell(context, { x, y, side, sheet, column, row }, { sheets, film: { cell } }) {
    context.drawImage(sheets[sheet], column * cell, row * cell, cell, cell, x, y, side, side);
  },
  frame(context, { x, y, side, stroke }) {
    Object.assign(context, { strokeStyle: stroke, lineWidth: 3 });
    context.strokeRect(x + 1.5, y + 1.5, side - 3, side - 3);
  },
  box(context, { x, y, width, height, fill }) {
    context.fillStyle = fill;
    context.fillRect(x, y, width, height);
  },
  bar(context, { x, y, width, height }) {
    context.fillStyle = addColours(context.createLinearGradient(x, 0, x + width, 0), false);
    context.fillRect(x, y, width, height);
  },
};
