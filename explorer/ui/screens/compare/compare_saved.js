// Saving what is shown, with its settings and its numbers: as a PNG file that has them inside, or as JSON alone.

import { studyShown } from './address.js';
import { download } from './charts.js';
import { viewedMap } from './compare_column.js';
import { SENTENCES, UNITS, chosenMap, numbersOf, rowName } from './compare_kinds.js';
import { composePicture } from './compare_picture.js';
import { savePng } from './png.js';

const OF_ATTENTION = ['mass', 'scatter', 'overlap']; // over all steps, layers and heads, whatever the maps are of
const MOST_VALUES = 50000; // of maps in a JSON file: about 400 kB
const DIGITS = 4;

export async function saveComparison(screen, form) {
  const columns = screen.shown.filter((column) => !column.pending);
  if (!columns.length) return;
  const settings = settingsOf(screen, columns);
  const name = `compare-${screen.state.kind}-seed${settings.seed}.${form}`;
  if (form === 'json') download(name, withValues(settings, screen, columns));
  else await savePng(await composePicture(screen, columns), settings, name);
}

function settingsOf(screen, columns) {
  const { state, controls, limit, order } = screen;
  const { kind, on, step, stack, layer, head, scale, view, pins } = state;
  const [first] = columns;
  return {
    ...first.settings, picture: first.given || 'drawn', study: studyShown(), link: new URL(screen.link(), location.href).href,
    models: columns.map((column) => savedColumn(column, screen)),
    view: { kind, on, step, stack, layer, head, scale, view, order, pins: [...pins].map((row) => first.words[row]) },
    map: { kind, is: SENTENCES[kind].join(' '), unit: UNITS[kind], of: Object.fromEntries(controls.chosen()), top_of_scale: scale === 'absolute' ? limit : null },
  };
}

// What is known of a model, how its picture is judged, and the numbers of its maps as they are shown.
function savedColumn(column, { rows, state, first }) {
  const { model, poisoned = null, poisoned_concept_count: count, poison_recorded: recorded = null, poisoned_words: aimedAt = [], numbers, graft } = column;
  const judgement = Object.fromEntries(Object.entries(numbers).filter(([name]) => !OF_ATTENTION.includes(name)));
  const maps = rows.map((row) => {
    const map = chosenMap(column, row, first, state);
    return { of: rowName(column, row), numbers: map && Object.fromEntries(numbersOf(column, row, map, state).map(([name, text]) => [name, text])) };
  });
  return { model, poisoned, poisoned_concept_count: count, poison_recorded: recorded, poisoned_words: aimedAt.map((word) => column.words[word]), ...graft && { graft }, judgement, maps };
}

// With the values of the maps as they are shown, row by row; where they are too many it says so in their place.
export function withValues(settings, screen, columns) {
  const { first, state, rows } = screen;
  const [leftmost] = screen.shown;
  const context = { state, first, reference: leftmost.pending ? null : leftmost };
  const shown = columns.map((column) => rows.map((row) => viewedMap(column, row, context)));
  const count = shown.flat().reduce((total, map) => total + (map?.length ?? 0), 0);
  if (count > MOST_VALUES) return { ...settings, values_left_out: `The maps have ${count} values: more than ${MOST_VALUES} are not written.` };
  const models = settings.models.map((model, at) => ({ ...model, maps: model.maps.map((map, row) => ({ ...map, values: shown[at][row] && rowsOf(shown[at][row]) })) }));
  return { ...settings, models };
}

const rowsOf = (map) => Array.from({ length: map.height }, (_, row) => (
  Array.from(map.subarray(row * map.width, (row + 1) * map.width), (value) => Number(value.toPrecision(DIGITS)))));
