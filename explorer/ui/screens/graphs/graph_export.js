// A selection as a file: CSV and JSON are made here, parquet and DataComp's .npy by the app.

import { ofStudy, studyShown } from './address.js';
import { download } from './charts.js';
import { encodeRows } from './graph_selection.js';
import { saveBlob } from './png.js';

// Spreadsheets take a text that begins so for a formula.
const FORMULA = /^[=+\-@\t\r]/;

function cell(value) {
  if (typeof value === 'number') return Number.isNaN(value) ? '' : String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function records(data, rows) {
  return Array.from(rows, (row) => ({
    uid: data.uids(row), caption: data.captions(row), concept: data.concept(row), kind: data.kind(row),
    ...Object.fromEntries(data.scoreNames.map((name) => [name, data.scores[name][row]])),
  }));
}

function asCsv(data, rows) {
  const heads = ['uid', 'caption', 'concept', 'kind', ...data.scoreNames];
  const lines = records(data, rows).map((record) => heads.map((head) => cell(record[head])).join(','));
  return `${[heads.join(','), ...lines].join('\r\n')}\r\n`;
}

export function saveCsv(data, rows) {
  saveBlob(new Blob(['\ufeff', asCsv(data, rows)], { type: 'text/csv' }), 'selected-pairs.csv');
}

export function saveJson(data, rows, filter) {
  download('selected-pairs.json', { study: studyShown(), set: data.header.set, facts: data.header.facts, link: location.href, filter, selected: records(data, rows) });
}

// Throws in words what the app refuses.
export async function saveFromApp(data, rows, format) {
  const query = new URLSearchParams({ set: data.set.name, stamp: data.set.stamp, rows: encodeRows(rows, data.count) });
  const response = await fetch(`${ofStudy(`/export/graphs.${format}`)}&${query}`);
  if (!response.ok) throw new Error(await response.text());
  saveBlob(await response.blob(), `selected-pairs.${format}`);
}
