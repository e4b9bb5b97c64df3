// Pictures of the pairs: those that the app reads when they are asked for or, where the pairs are not on this machine,
// those that were kept for Graphs. A pair without one shows the mark of its kind.

import { here } from './address.js';
import { node } from './charts.js';
import { loadPairs } from './graph_data.js';
import { PairPictures } from './pair_pictures.js';
import { PAIR_KINDS } from './poison.js';

export class Pictures {
  // `blind()`: whether which pairs are poison is hidden.
  constructor(set, blind) {
    Object.assign(this, { set, blind, waiting: new Set(), notKept: '' });
    this.fetched = new PairPictures(set.arm.pictures_url, set.header.set.data_hash, set.arm.no_pictures);
    this.fetched.addEventListener('arrived', () => this.arrived());
    this.notice = node('div', { class: 'pictures-notice' });
    this.tellWhyNone();
  }

  // A square for a row, with its picture once that is there.
  square(row, side) {
    const kind = this.blind() ? 'unrecorded' : this.set.kind(row);
    const square = node('span', { class: `graph-thumbnail none ${kind}`, style: `width:${side}px;height:${side}px`, 'aria-hidden': 'true' }, PAIR_KINDS[kind].mark);
    this.fetched.fill(square, this.set.tableRow[row], side);
    if (square.classList.contains('none')) this.waiting.add([square, row]);
    if (this.fetched.whyNone) this.fillFromGraphs();
    return square;
  }

  arrived() {
    for (const entry of this.waiting) if (!entry[0].classList.contains('none') || !entry[0].isConnected) this.waiting.delete(entry);
    this.tellWhyNone();
    if (this.fetched.whyNone) this.fillFromGraphs();
  }

  // What was known before or learnt by asking, as long as it holds.
  tellWhyNone() {
    const why = this.fetched.whyNone;
    this.notice.replaceChildren(...(why ? [node('p', { class: 'note' }, `${why.problem} ${this.keptWords()}`, why.command ? [' This brings them back: ', node('code', {}, why.command)] : null)] : []));
  }

  keptWords() {
    if (this.notKept) return `Those kept for Graphs did not load either: ${this.notKept}`;
    return this.set.arm.graphs?.thumbnails_url ? 'Shown are the pictures that were kept for Graphs, and of other pairs the mark of their kind.' : 'The mark of its kind stands for each pair.';
  }

  // The arm's graphs; null where that step is not done. What failed is tried again by whoever asks next.
  graphs() {
    this.drawn ??= this.loadGraphs().catch((error) => { this.drawn = null; throw error; });
    return this.drawn;
  }

  async loadGraphs() {
    const { graphs } = this.set.arm;
    if (!graphs) return null;
    const data = await loadPairs(graphs);
    data.rowByUid = new Map(Array.from({ length: data.count }, (_, row) => [data.uids(row), row]));
    return data;
  }

  async fillFromGraphs() {
    let data;
    try {
      data = await this.graphs();
      this.notKept = '';
    } catch (error) {
      this.notKept = error.message;
    }
    this.tellWhyNone();
    if (this.notKept) return;
    const squares = [...this.waiting];
    this.waiting.clear();
    if (!data?.thumbnail) return;
    const { size, columns } = data.header.thumbnails;
    for (const [square, row] of squares) {
      const drawn = data.rowByUid.get(this.set.uids(row));
      const cell = drawn === undefined ? -1 : data.thumbnail[drawn];
      if (cell >= 0) paint(square, here(data.set.thumbnails_url), cell % columns, columns, Math.floor(cell / columns), data.sheet.naturalHeight / size);
    }
  }
}

// One cell of a sheet of `columns` by `lines` fills the square.
function paint(square, address, column, columns, line, lines) {
  const place = (at, of) => (of > 1 ? (100 * at) / (of - 1) : 0);
  square.classList.remove('none');
  square.replaceChildren();
  Object.assign(square.style, {
    backgroundImage: `url("${address}")`, backgroundSize: `${columns * 100}% ${lines * 100}%`, backgroundPosition: `${place(column, columns)}% ${place(line, lines)}%`,
  });
}
