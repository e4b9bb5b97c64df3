// Saving what is shown as a PNG file, with its settings and its numbers inside.

import { studyShown } from './address.js';
import { SENTENCES, UNITS, chosenMap, numbersOf, rowName } from './compare_kinds.js';
import { composePicture } from './compare_picture.js';
import { savePng } from './png.js';

const OF_ATTENTION = ['mass', 'scatter', 'overlap']; // over all steps, layers and heads, whatever the maps are of

export async function saveComparison(screen) {
  const columns = screen.shown.filter((column) => !column.pending);
  if (!columns.length) return;
  const canvas = await composePicture(screen, columns);
  const { state } = screen;
  const [first] = columns;
  const settings = {
    ...first.settings, picture: first.given || 'drawn', study: studyShown(), link: new URL(screen.link(), location.href).href,
    models: columns.map((column) => savedColumn(column, screen)),
    view: { ...state, order: screen.order, pins: [...state.pins].map((row) => first.words[row]) },
    map: { kind: state.kind, is: SENTENCES[state.kind].join(' '), unit: UNITS[state.kind], of: Object.fromEntries(screen.controls.chosen()),
      top_of_scale: state.scale === 'absolute' ? screen.limit : null },
  };
  await savePng(canvas, settings, `compare-${state.kind}-seed${first.settings.seed}.png`);
}

// What is known of a model, how its picture is judged, and the numbers of its maps as they are shown.
function savedColumn(column, { rows, state, first }) {
  const { model, poisoned_concept_count: count, numbers, graft } = column;
  const judgement = Object.fromEntries(Object.entries(numbers).filter(([name]) => !OF_ATTENTION.includes(name)));
  const maps = rows.map((row) => {
    const map = chosenMap(column, row, first, state);
    return { of: rowName(column, row), numbers: map && Object.fromEntries(numbersOf(column, row, map, state).map(([name, text]) => [name, text])) };
  });
  return { model, poisoned_concept_count: count, ...graft && { graft }, judgement, maps };
}
