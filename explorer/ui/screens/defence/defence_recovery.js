// The imploded model trained further on benign pairs: how much of it comes back, at what cost, beside the paper's numbers.

import { count, node, saveTableButton, scrollable, withOrigin } from './charts.js';
import { percent } from './defence_charts.js';

const COLUMNS = [['model', ''], ['benign pairs', 'number'], ['steps', 'number'], ['seconds', 'number'], ['drawn right, all', 'number'], ['drawn right, not targeted', 'number'], ['drawn right, poisoned', 'number']];
const GROUPS = ['all', 'unpoisoned', 'poisoned'];

// null where the arm has no such model.
export function recoveryTable({ arms, control, how_drawn: how }, arm, paper) {
  const found = arms?.[arm];
  if (!found?.recovery?.length) return null;
  const measured = (name, entry, pairs, { steps, seconds } = {}) => [name, pairs, steps === undefined ? '–' : count(steps), seconds === undefined ? '–' : seconds.toFixed(0),
    ...GROUPS.map((group) => share(entry.metrics.top1?.[group]))];
  const rows = [measured(`${arm} as it is`, found.unfiltered, '0'),
    ...found.recovery.map((entry) => measured('trained further', entry, `${count(entry.kept)} (${percent(entry.share)} of its pairs)`, entry)),
    ...(control ? [measured('benign control', control, '–')] : [])];
  const theirs = paper.rows.map(({ model, benign_pairs: pairs, share_of_pairs: part, accuracy }) => [`the paper’s: ${model}`,
    pairs === null ? '–' : `${count(pairs)}${part === null ? '' : ` (${percent(part)})`}`, '–', '–', percent(accuracy.all, 1), percent(accuracy.clean, 1), percent(accuracy.poisoned, 1)]);
  const cells = (values, tag) => values.map((value, at) => node(at ? tag : 'th', { class: COLUMNS[at][1], scope: at ? null : 'row' }, value));
  const table = node('table', { class: 'explorer-table' },
    node('thead', {}, node('tr', {}, COLUMNS.map(([title, kind]) => node('th', { scope: 'col', class: kind }, title)))),
    node('tbody', {}, [...rows, ...theirs].map((values) => node('tr', {}, cells(values, 'td')))));
  const models = [arm, ...found.recovery.map(({ name }) => name), ...(control ? ['benign control'] : [])];
  return node('section', { class: 'defence-recovery', 'aria-label': 'Recovery', ...withOrigin({ drawn: { ...how, models } }) },
    node('div', { class: 'table-head' }, node('h3', {}, 'Or mend the imploded model with benign pairs'), saveTableButton('recovery', table)),
    node('p', { class: 'note' }, 'Going back to the model from before costs no training, and gives up what the benign pairs taught. '
      + `${paper.label}; there a picture counts by ${paper.definitions.accuracy.replace(/^share of images with /, '')}.`), scrollable('saved-table', 'Models trained further on benign pairs', table));
}

const share = (top) => (top ? `${percent(top.mean)}${top.low === null ? '' : ` (${percent(top.low)} to ${percent(top.high)})`}` : 'not measured');
