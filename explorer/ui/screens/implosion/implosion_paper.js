// The paper's tables, plainly labelled as the paper's, and what of them the study has, in numbers without a common scale.

import { missingStep, node } from './charts.js';
import { table } from './implosion_tables.js';

const WORDS = { poison: 'Poison', base: 'Base', data: 'Data', pool_ranks: 'Ranks of the pool', model: 'Model', benign_pairs: 'Benign pairs', share_of_pairs: 'Of the pairs trained on', poisoned_concept_count: 'C_P', feature_ad: 'Feature AD', structure_ad: 'Structure AD', ad: 'AD', accuracy: 'Accuracy', aesthetics: 'Aesthetics', utility: 'Utility', of_benign: 'Of benign’s' };
const DERIVED = 'Of benign’s is computed from the rows: accuracy on clean concepts, or on all where there is no such number (utility where there is neither), as a share of the benign model’s.';
const MARKS = { agrees: '✓', disagrees: '✗', 'not told apart': '≈', 'not comparable': '≠', 'not done': '–' };

const digits = (value) => (Math.abs(value) < 0.01 && value ? value.toFixed(4) : value.toFixed(3));

export function besidePaper(found) {
  if (found.missing) return missingStep(found.missing);
  if (found.problem) return node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'Not beside the paper.'), found.problem);
  const rows = found.comparisons.flatMap(({ name, about, quantities, differs, missing, study }) => quantities.map((quantity, place) => {
    const why = missing ? `It takes ${missing.replaceAll('`', '')}.` : differs ? `${differs[0].toUpperCase()}${differs.slice(1)}.` : '';
    return node('tr', {},
      place ? node('td', {}) : node('th', { scope: 'row', title: about }, name),
      node('td', { class: 'says' }, place ? null : node('div', {}, about), node('div', { class: 'reach' }, quantity.what)),
      node('td', { class: 'number', 'data-head': 'Paper' }, quantity.paper !== null ? digits(quantity.paper) : quantity.differs ? '–' : 'pictures'),
      node('td', { class: 'number', 'data-head': 'Here' }, here(quantity, study)),
      node('td', { class: 'verdict', title: why },
        `${MARKS[quantity.verdict]} ${quantity.verdict}`, why && !place ? node('div', { class: 'reach' }, why) : null));
  }));
  const note = 'A verdict is of what this study measured, or another one where that is named: it agrees where the whole interval lies where the paper says, disagrees where none of it does.';
  const made = table('beside-the-paper', 'Beside the paper', note, ['The paper’s', 'What it says', 'Paper', 'Here', 'Verdict'], rows);
  made.classList.add('beside-paper');
  return made;
}

function here({ here: found, over, unknown }, study) {
  if (!found) return unknown ? ['–', node('div', { class: 'reach' }, unknown)] : '–';
  const range = found.low === null ? 'no interval' : `${digits(found.low)} to ${digits(found.high)}`;
  return [digits(found.value), node('div', { class: 'reach' }, `${range}, over ${over}${study ? `, in the study ${study}` : ''}`)];
}

// What the paper leaves open: models that were poisoned already when they were trained on.
export function poisonedBase(found) {
  if (!found) return null;
  if (found.problem) return node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'No AD of a poisoned base.'), found.problem);
  const rows = found.models.map(({ name, share, base, history_ad, predicted, weighted, measured }) => node('tr', {},
    node('th', { scope: 'row' }, `${name}, ${Math.round(100 * share)} % of the base’s pairs`),
    [history_ad, predicted, weighted, base.accuracy, measured].map((value, at) => node('td', { class: at ? 'number' : '' }, digits(value)))));
  const note = `Accuracy on concepts that no poison aims at, of models that were trained on with other pairs. AD is taken over all pairs, the base’s and the later ones, and the line of accuracy on AD predicts from it. Weighted: a later pair counts ${found.papers_weight.toFixed(1)} times, as fits the paper’s models best. Predictions are off by ${digits(found.mean_error)} on average, weighted by ${digits(found.mean_error_weighted)}. The proposal is ours, made after the first of such numbers had been seen; one training a model.`;
  return table('poisoned-base', 'AD of a base that is already poisoned', note, ['Later pairs', 'AD of all pairs', 'Predicted', 'Weighted', 'The base', 'Measured'], rows);
}

// One at a time, chosen by its number, and below it this world's rows of the same, where they were measured.
export function paperTables(tables, { comparisons = [] }) {
  const place = node('div', {});
  const chooser = node('select', { class: 'plain-select', onchange: () => show() },
    tables.map(({ source }, at) => node('option', { value: String(at) }, /Table \d+: [^,;]+/.exec(source)[0])));
  const show = () => {
    const number = Number(chooser.value) + 1;
    const measured = comparisons.filter(({ name, rows }) => name.startsWith(`Table ${number}`) && rows.length);
    place.replaceChildren(paperTable(tables[number - 1], number), ...measured.map((each, at) => tableHere(each, `table-${number}-here-${at + 1}`)));
  };
  show();
  return node('div', {}, node('label', { class: 'field' }, 'The paper’s tables ', chooser), place);
}

const paperTable = ({ label, source, rows, notes }, number) => rowsTable(`paper-table-${number}`, label, [source, ...(notes ?? []), DERIVED].join(' '), rows);

// Numbers without a common scale: only the last column compares with the paper's.
function tableHere({ name, rows, study, differs }, file) {
  const clean = rows.some(({ accuracy }) => accuracy.clean !== undefined) ? ' Clean: concepts that no poison aims at.' : '';
  const note = `Means over concepts, on this world's own scale; what compares with the paper's is the last column. ${DERIVED}${clean}${differs ? ` ${differs[0].toUpperCase()}${differs.slice(1)}.` : ''} Intervals stand above, in “Beside the paper”.`;
  return rowsTable(file, `${name}: measured here${study ? `, in the study ${study}` : ''}`, note, rows);
}

// Accuracy on clean concepts, or on all where there is no such number, as a share of that of the benign model of the same base and data.
function withShares(rows) {
  const of = ({ accuracy, utility = null }) => (accuracy === undefined ? utility : accuracy.clean === undefined ? accuracy.all : accuracy.clean);
  const isBenign = ({ poisoned_concept_count: count, model }) => count === 0 || (count === undefined && model === 'benign');
  return rows.map((row) => {
    const benign = rows.find((other) => isBenign(other) && other.base === row.base && other.data === row.data) ?? rows.find(isBenign);
    const [own, whole] = [of(row), benign ? of(benign) : null];
    return own === null || !whole || benign === row ? row : { ...row, of_benign: own / whole };
  });
}

function rowsTable(file, caption, note, rows) {
  const flat = withShares(rows).map((row) => Object.fromEntries(Object.entries(row).flatMap(([name, value]) => (value !== null && typeof value === 'object'
    ? Object.entries(value).map(([group, share]) => [`${WORDS[name]}, ${group}`, share]) : [[WORDS[name] ?? name, value]]))));
  const heads = [...new Set(flat.flatMap(Object.keys))];
  const cell = (value, head) => (value === null || value === undefined ? '–' : Number.isInteger(value) || typeof value === 'string' ? String(value) : head === WORDS.share_of_pairs ? String(value) : value.toFixed(3));
  const lines = flat.map((row) => node('tr', {}, heads.map((head, at) => (at ? node('td', { class: at > 1 ? 'number' : '' }, cell(row[head], head)) : node('th', { scope: 'row' }, cell(row[head], head))))));
  return table(file, caption, note, heads, lines);
}
