// What is set above the maps, and what is set, kept and saved above the table.

import { studyShown } from './address.js';
import { node, select, showProblem } from './charts.js';
import { colouringsOf, conceptCounts } from './graph_colours.js';
import { scoreLabel } from './graph_data.js';
import { saveCsv, saveFromApp, saveJson } from './graph_export.js';
import { encodeRows, NamedSelections, NO_FILTER } from './graph_selection.js';
import { PAIR_KINDS, poisonWords } from './poison.js';

const DRAG_MODES = [['pan', 'Move'], ['lasso', 'Lasso'], ['box', 'Box']];

const button = (label, act, attributes = {}) => node('button', { type: 'button', class: 'plain-button', onclick: act, ...attributes }, label);

export class GraphToolbar {
  constructor(screen) {
    const { state, data, sets } = screen;
    const focus = select('Concept in focus', [['', 'most frequent'], ...conceptCounts(data).map(([name, size]) => [name, `${name} (${size})`])], state.focus,
      (value) => { state.focus = value; screen.recolour(); }, { hidden: state.colouring !== 'concept' });
    const colouring = select('Colour by', colouringsOf(data), state.colouring, (value) => {
      state.colouring = value;
      focus.hidden = value !== 'concept';
      screen.recolour();
    }, { id: 'graph-colouring' });
    const chooser = sets.length > 1 ? select('Set of pairs', sets.map((set) => [set.name, `${set.name} (${poisonWords(set, 'C_P = 0')})`]), data.set.name,
      (name) => screen.open(name), { id: 'graph-set' }) : null;
    const toggle = (name, label, act) => node('label', { class: 'toggle' }, node('input', {
      type: 'checkbox', name: `graph-${name}`, checked: state[name], onchange: (event) => { state[name] = event.target.checked; act(); },
    }), label);
    this.thumbnails = toggle('thumbnails', 'Pictures when zoomed in', () => screen.display());
    this.element = node('div', { class: 'graph-toolbar', role: 'toolbar', 'aria-label': 'Graph display' },
      chooser, node('label', { for: 'graph-colouring' }, 'Colour by'), colouring, focus, this.dragModes(screen),
      node('span', { class: 'segments', role: 'group', 'aria-label': 'Zoom' },
        button('+', () => screen.zoom(1 / 0.6), { title: 'Zoom in', 'aria-label': 'Zoom in' }),
        button('−', () => screen.zoom(0.6), { title: 'Zoom out', 'aria-label': 'Zoom out' }),
        button('All', () => screen.showAll(), { title: 'Show all pairs', 'aria-label': 'Show all pairs' })),
      toggle('edges', 'Edges', () => screen.display()), toggle('lines', 'Join pairs', () => screen.display()),
      toggle('together', 'Zoom together', () => {}), this.thumbnails);
  }

  hideThumbnails() { this.thumbnails.hidden = true; }

  dragModes(screen) {
    const buttons = DRAG_MODES.map(([mode, label]) => button(label, () => {
      screen.state.drag = mode;
      buttons.forEach((other, at) => other.setAttribute('aria-pressed', String(DRAG_MODES[at][0] === mode)));
      screen.display();
    }, { 'aria-pressed': mode === screen.state.drag ? 'true' : 'false', title: mode === 'pan' ? null : 'Shift adds to the selection, Alt takes away from it' }));
    return node('span', { class: 'segments', role: 'group', 'aria-label': 'Dragging on a map' }, buttons);
  }
}

// Filters, undo, names and exports.
export class SelectionBar {
  constructor(screen) {
    Object.assign(this, { screen, data: screen.data, selection: screen.selection });
    const { data } = screen;
    this.named = new NamedSelections(data.set.stamp, data.count);
    const { filter } = this.selection.state;
    const set = (name) => (value) => this.selection.filter({ [name]: value });
    const field = (name, attributes) => node('input', { class: 'plain-input', value: filter[name], oninput: (event) => set(name)(event.target.value), ...attributes });
    const range = (name, words) => field(name, { type: 'number', step: 'any', placeholder: words, 'aria-label': `Score, ${words}` });
    this.fields = {
      text: field('text', { type: 'search', class: 'plain-input graph-search', placeholder: 'Find caption, concept or uid…', 'aria-label': 'Find caption, concept or uid' }),
      concept: select('Concept', [['', 'any concept'], ...conceptCounts(data).map(([name, size]) => [name, `${name} (${size})`])], filter.concept, set('concept')),
      kind: select('Poison', [['', 'poisoned or not'], ...data.kinds().map((kind) => [kind, PAIR_KINDS[kind].words])], filter.kind, set('kind')),
      score: select('Score', [['', 'any score'], ...data.scoreNames.map((name) => [name, scoreLabel(name)])], filter.score, set('score')),
      low: range('low', 'from'), high: range('high', 'to'),
    };
    this.buttons = {
      undo: button('Undo', () => this.selection.undo(), { title: 'Undo the last change of the selection (Ctrl+Z)' }),
      redo: button('Redo', () => this.selection.redo(), { title: 'Ctrl+Shift+Z' }),
      clear: button('Clear selection', () => screen.clear()),
      keep: button('Name…', () => this.keep(), { title: 'Keep this selection under a name, in this browser' }),
      remove: button('Filter these out', () => this.filterOut(), { title: 'Open Defence with a filter that removes the selected pairs' }),
    };
    this.names = node('span', { class: 'named-selections' });
    this.saving = node('select', { class: 'plain-select', 'aria-label': 'Save as', onchange: (event) => this.save(event.target.value) },
      [['', 'Save as…'], ['csv', 'CSV'], ['json', 'JSON'], ['parquet', 'parquet'], ['npy', 'DataComp .npy (uids)']].map(([value, words]) => node('option', { value }, words)));
    this.problem = node('div', {});
    this.element = node('div', { class: 'selection-bar' },
      node('div', { class: 'graph-toolbar', role: 'group', 'aria-label': 'Filters' }, Object.values(this.fields)),
      node('div', { class: 'graph-toolbar', role: 'group', 'aria-label': 'Selection' }, Object.values(this.buttons), this.names, node('span', { class: 'spacer' }), this.saving), this.problem);
  }

  show() {
    const { selection, buttons } = this;
    for (const [name, field] of Object.entries(this.fields)) if (field.value !== selection.state.filter[name]) field.value = selection.state.filter[name];
    for (const name of ['low', 'high']) this.fields[name].disabled = selection.state.filter.score === '';
    buttons.undo.disabled = selection.past.length === 0;
    buttons.redo.disabled = selection.future.length === 0;
    buttons.clear.disabled = !selection.any && this.screen.state.inspected === null;
    buttons.keep.disabled = buttons.remove.disabled = !selection.any || selection.rows.length === 0;
    this.saving.disabled = selection.rows.length === 0;
    this.names.replaceChildren(...Object.keys(this.named.all()).map((name) => node('span', { class: 'segments' },
      button(name, () => this.selection.set({ chosen: this.named.rows(name), filter: NO_FILTER, undrawn: 0 })),
      button('×', () => { this.named.forget(name); this.show(); }, { 'aria-label': `Forget ${name}` }))));
  }

  filterOut() {
    const { set, count } = this.data;
    const drawn = `${set.stamp}.${encodeRows(this.selection.rows, count)}`;
    location.assign(`?${new URLSearchParams({ study: studyShown(), tab: 'defence', 'd.arm': set.name, 'd.drawn': drawn })}`);
  }

  keep() {
    const name = prompt('Name of this selection')?.trim();
    if (!name) return;
    this.named.keep(name, this.selection.rows);
    this.show();
  }

  async save(format) {
    this.saving.value = '';
    const { rows } = this.selection;
    this.problem.replaceChildren();
    try {
      if (format === 'csv') saveCsv(this.data, rows);
      else if (format === 'json') saveJson(this.data, rows, this.selection.words());
      else if (format) await saveFromApp(this.data, rows, format);
    } catch (error) {
      showProblem(this.problem, 'The selection was not saved', error, () => this.save(format));
    }
  }

  onKey(event) {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z' || event.target.matches('input')) return;
    event.preventDefault();
    if (event.shiftKey) this.selection.redo(); else this.selection.undo();
  }
}

// The filters that a link names; what this set does not have is added to `missing`.
export function followFilters(data, { text = '', in: concept = '', only: kind = '', score = '', low = '', high = '' }, missing) {
  const known = (value, values) => {
    if (value === '' || values.includes(value)) return value;
    missing.push(value);
    return '';
  };
  const figure = (value) => (value === '' || Number.isFinite(Number(value)) ? value : known(value, []));
  const filter = { text, concept: known(concept, data.header.concepts), kind: known(kind, data.kinds()), score: known(score, data.scoreNames), low: score && figure(low), high: score && figure(high) };
  return Object.values(filter).some((value) => value !== '') ? filter : NO_FILTER;
}
