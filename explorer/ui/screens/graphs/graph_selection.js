// Which pairs are meant: those chosen on a map, narrowed by the filters. One selection for maps, table and exports.

import { scoreLabel } from './graph_data.js';

export const NO_FILTER = { text: '', concept: '', kind: '', score: '', low: '', high: '' };
const MOST_STEPS = 50;

export class Selection {
  constructor(data, changed) {
    Object.assign(this, { data, changed, past: [], future: [], last: '' });
    this.state = { chosen: null, filter: NO_FILTER, undrawn: 0 }; // undrawn: pairs that were to be chosen, and are not drawn
    this.all = Int32Array.from({ length: data.count }, (_, row) => row);
    this.apply();
  }

  // Replaces part of the state; keystrokes of one field are one step back.
  set(part, what = '') {
    if (!what || what !== this.last) this.past = [...this.past, this.state].slice(-MOST_STEPS);
    this.last = what;
    this.future = [];
    this.state = { ...this.state, ...part };
    this.apply();
  }

  // `how`: replace, add or remove.
  choose(rows, how = 'replace') {
    const before = this.state.chosen ?? [];
    let chosen = rows;
    if (how === 'add') chosen = Int32Array.from(new Set([...before, ...rows])).sort();
    if (how === 'remove') {
      const gone = new Set(rows);
      chosen = (this.state.chosen ?? this.all).filter((row) => !gone.has(row));
    }
    this.set({ chosen: chosen.length || how === 'remove' ? chosen : null, undrawn: how === 'replace' ? 0 : this.state.undrawn });
  }

  filter(part) {
    const range = part.score === '' ? { low: '', high: '' } : {};
    this.set({ filter: { ...this.state.filter, ...part, ...range } }, Object.keys(part).join());
  }

  clear() {
    if (this.any) this.set({ chosen: null, filter: NO_FILTER, undrawn: 0 });
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(this.state);
    this.state = from.pop();
    this.last = '';
    this.apply();
  }

  get filtered() { return Object.values(this.state.filter).some((value) => value !== ''); }

  get any() { return this.state.chosen !== null || this.filtered; }

  // `rows`: those that are meant, ascending; `active`: 1 for each of them, null where all are.
  apply() {
    const { data } = this;
    const { chosen } = this.state;
    this.active = null;
    this.rows = this.all;
    if (this.any) {
      this.rows = (chosen ?? this.all).filter(this.passes());
      this.active = new Uint8Array(data.count);
      for (const row of this.rows) this.active[row] = 1;
    }
    this.changed?.();
  }

  passes() {
    const { text, concept, kind, score, low, high } = this.state.filter;
    const { data } = this;
    const tests = [];
    const wanted = text.trim().toLowerCase();
    if (wanted) {
      const haystack = data.searched();
      tests.push((row) => haystack[row].includes(wanted));
    }
    if (concept) {
      const id = data.header.concepts.indexOf(concept);
      tests.push((row) => data.mainConcept[row] === id);
    }
    if (kind) {
      const number = data.kindNumber(kind);
      tests.push((row) => data.kindOf[row] === number);
    }
    const values = data.scores[score];
    if (values && low !== '') tests.push((row) => values[row] >= Number(low));
    if (values && high !== '') tests.push((row) => values[row] <= Number(high));
    return tests.length ? (row) => tests.every((test) => test(row)) : () => true;
  }

  // The filters in words, for what is exported.
  words() {
    const { text, concept, kind, score, low, high } = this.state.filter;
    return [text && `“${text}”`, concept && `concept ${concept}`, kind, score && (low || high) && `${scoreLabel(score)} ${low || '…'} to ${high || '…'}`]
      .filter(Boolean).join(', ');
  }
}

// Ascending rows of `count` as a short text: the gaps between them or a bit for every pair, whichever is shorter, in
// base64 for addresses. `explorer/ui/screens/graphs/selection_code.py` reads the same.
export function encodeRows(rows, count) {
  const gaps = [];
  let next = 0;
  for (const row of rows) {
    let gap = row - next;
    for (; gap > 127; gap >>= 7) gaps.push((gap & 127) | 128);
    gaps.push(gap);
    next = row + 1;
  }
  if (gaps.length <= count / 8) return `g${base64(gaps)}`;
  const bits = new Uint8Array(Math.ceil(count / 8));
  for (const row of rows) bits[row >> 3] |= 1 << (row & 7);
  return `b${base64(bits)}`;
}

// The rows, or null where the text is none of `encodeRows`.
export function decodeRows(code, count) {
  if (code === 'g') return new Int32Array(); // of a selection from which all was taken away
  let bytes;
  try {
    bytes = Uint8Array.from(atob(code.slice(1).replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
  const rows = [];
  if (code[0] === 'b') {
    for (let row = 0; row < bytes.length * 8; row += 1) if (bytes[row >> 3] & (1 << (row & 7))) rows.push(row);
  } else if (code[0] === 'g') {
    let [next, gap, shift] = [0, 0, 0];
    for (const byte of bytes) {
      gap += (byte & 127) * 2 ** shift;
      shift += 7;
      if (byte > 127) continue;
      rows.push(next + gap);
      next += gap + 1;
      [gap, shift] = [0, 0];
    }
  } else return null;
  return rows.length && rows.at(-1) < count ? Int32Array.from(rows) : null;
}

function base64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.slice(at, at + 8192));
  return btoa(text).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

// Selections by name, kept in this browser for these very pairs.
export class NamedSelections {
  constructor(stamp, count) { Object.assign(this, { place: `explorer-selections-${stamp}`, count }); }

  all() { return JSON.parse(localStorage.getItem(this.place) ?? '{}'); }

  keep(name, rows) { this.write({ ...this.all(), [name]: encodeRows(rows, this.count) }); }

  forget(name) {
    const { [name]: _, ...others } = this.all();
    this.write(others);
  }

  rows(name) { return decodeRows(this.all()[name] ?? '', this.count); }

  write(named) { localStorage.setItem(this.place, JSON.stringify(named)); }
}
