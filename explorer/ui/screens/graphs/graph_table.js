// The table beside the maps: the pairs that are meant, sorted by any column; of thousands of rows only those in sight
// are in the page. Arrow keys, Page Up and Down, Home and End walk over the rows and inspect them.

import { count, node, number } from './charts.js';
import { scoreLabel } from './graph_data.js';
import { badge, thumbnail } from './graph_inspector.js';

const ROW = 40;
const SPARE = 4;

export class PairTable {
  constructor(root, data, inspect) {
    Object.assign(this, { data, inspect, sort: 'structure_distance', descending: true, inspected: null, orders: new Map() });
    this.columns = [
      ['kind', 'Pair'], ['caption', 'Caption'], ['concept', 'Concept'],
      ...data.scoreNames.map((name) => [name, scoreLabel(name)]), ['uid', 'uid'],
    ];
    this.heads = this.columns.map(([name, label]) => node('div', { role: 'columnheader', class: `cell ${this.kindOfColumn(name)}`, 'aria-sort': 'none' },
      node('button', { type: 'button', 'data-sort': name, onclick: () => this.sortBy(name) }, label)));
    this.body = node('div', { class: 'pair-rows', role: 'presentation' });
    this.scroller = node('div', { class: 'pair-scroller', role: 'rowgroup', onscroll: () => this.render() }, this.body);
    this.table = node('div', {
      class: 'pair-table', role: 'grid', tabindex: '0', 'aria-label': 'Pairs; arrow keys choose one', 'aria-colcount': this.columns.length,
      style: `--columns: ${this.columns.map(([name]) => this.width(name)).join(' ')}`, onkeydown: (event) => this.onKey(event),
    },
    node('div', { role: 'rowgroup' }, node('div', { role: 'row', class: 'pair-row pair-head', 'aria-rowindex': 1 }, this.heads)), this.scroller);
    root.replaceChildren(this.table);
    new ResizeObserver(() => this.render()).observe(this.scroller);
  }

  kindOfColumn(name) { return this.data.scores[name] ? 'figure' : name; }

  width(name) {
    if (this.data.scores[name]) return '84px';
    return { kind: '220px', caption: 'minmax(180px, 3fr)', concept: 'minmax(80px, 1fr)', uid: 'minmax(90px, 1fr)' }[name];
  }

  show(rows, inspected) {
    if (rows !== this.rows) {
      this.rows = rows;
      this.order = null;
    }
    this.inspected = inspected;
    this.render();
  }

  sortBy(name) {
    this.descending = this.sort === name ? !this.descending : Boolean(this.data.scores[name]);
    this.sort = name;
    this.order = null;
    this.scroller.scrollTop = 0;
    this.render();
  }

  // The rows that are meant, in the order of all, which is kept.
  sorted() {
    const key = `${this.sort} ${this.descending}`;
    if (!this.orders.has(key)) this.orders.set(key, sortedRows(this.data, this.sort, this.descending));
    const order = this.orders.get(key);
    if (this.rows.length === order.length) return order;
    const meant = new Uint8Array(order.length);
    for (const row of this.rows) meant[row] = 1;
    return order.filter((row) => meant[row]);
  }

  render() {
    if (!this.rows || !this.scroller.clientHeight) return;
    this.order ??= this.sorted();
    this.heads.forEach((head, at) => head.setAttribute('aria-sort', this.columns[at][0] !== this.sort ? 'none' : this.descending ? 'descending' : 'ascending'));
    this.table.setAttribute('aria-rowcount', this.order.length + 1);
    this.body.style.height = `${this.order.length * ROW}px`;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(this.order.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * SPARE);
    this.body.replaceChildren(...Array.from(this.order.subarray(first, last), (row, at) => this.line(row, first + at)));
    const shown = this.inspected === null ? null : this.body.querySelector(`[data-row="${this.inspected}"]`);
    if (shown) this.table.setAttribute('aria-activedescendant', shown.id);
    else this.table.removeAttribute('aria-activedescendant');
  }

  line(row, at) {
    const { data } = this;
    const words = { caption: data.caption(row), concept: data.concept(row), uid: data.uids(row) };
    const cells = this.columns.map(([name]) => {
      if (name === 'kind') return node('div', { role: 'gridcell', class: 'cell kind' }, thumbnail(data, row, 30), badge(data, row));
      const text = data.scores[name] ? number(data.scores[name][row], 3) : words[name];
      return node('div', { role: 'gridcell', class: `cell ${this.kindOfColumn(name)}`, title: text }, text);
    });
    return node('div', {
      role: 'row', id: `pair-row-${row}`, class: 'pair-row', 'data-row': row, 'aria-rowindex': at + 2,
      'aria-selected': row === this.inspected ? 'true' : 'false', style: `top:${at * ROW}px`, onclick: () => this.inspect(row),
    }, cells);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.order?.length) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = this.order.indexOf(this.inspected);
    const to = Math.min(this.order.length - 1, Math.max(0, (from < 0 ? (step > 0 ? -1 : this.order.length) : from) + step));
    this.scroller.scrollTop = Math.min(to * ROW, Math.max(this.scroller.scrollTop, (to + 1) * ROW - this.scroller.clientHeight));
    this.inspect(this.order[to]);
  }

}

// Equal entries stay in the set's order; what was not measured comes last.
function sortedRows(data, sort, descending) {
  const rows = Int32Array.from({ length: data.count }, (_, row) => row);
  const sign = descending ? -1 : 1;
  const values = data.scores[sort];
  if (values) {
    const places = Float64Array.from(values, (value) => (Number.isNaN(value) ? Infinity : sign * value));
    return rows.sort((first, second) => (places[first] < places[second] ? -1 : places[first] > places[second] ? 1 : first - second));
  }
  const key = { kind: (row) => data.kindOf[row], caption: data.captions, concept: (row) => data.concept(row), uid: data.uids }[sort];
  const keys = Array.from(rows, (row) => key(row));
  return rows.sort((first, second) => (keys[first] < keys[second] ? -sign : keys[first] > keys[second] ? sign : first - second));
}
