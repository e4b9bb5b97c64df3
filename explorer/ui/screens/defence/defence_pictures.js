// Pictures of the pairs: those that the app reads when they are asked for or, where the pairs are not on this machine,
// those that were kept for Graphs. A pair without one shows the mark of its kind.

import { here, studyShown } from './address.js';
import { node } from './charts.js';
import { loadPairs } from './graph_data.js';
import { PAIR_KINDS } from './poison.js';

const MOST_AT_ONCE = 64;
const MOST_SHEETS = 40;

export class Pictures {
  // `blind()`: whether which pairs are poison is hidden.
  constructor(set, blind) {
    Object.assign(this, { set, blind, sheets: new Map(), problem: null });
    this.notice = node('div', { class: 'pictures-notice' });
  }

  // A square for a row; `fill` puts the picture into it.
  square(row, side) {
    const kind = this.blind() ? 'unrecorded' : this.set.kind(row);
    return node('span', { class: `graph-thumbnail none ${kind}`, style: `width:${side}px;height:${side}px`, 'data-row': row, 'aria-hidden': 'true' }, PAIR_KINDS[kind].mark);
  }

  async fill(squares) {
    for (let first = 0; first < squares.length; first += MOST_AT_ONCE) {
      const some = squares.slice(first, first + MOST_AT_ONCE);
      const rows = [...new Set(some.map((square) => Number(square.dataset.row)))].sort((one, other) => one - other);
      const sheet = this.problem ? null : await this.sheet(rows);
      if (sheet) for (const square of some) paint(square, sheet, rows.indexOf(Number(square.dataset.row)), rows.length);
      else await this.fillFromGraphs(some);
    }
  }

  // The address of one picture with those of `rows` side by side; null where they cannot be read, which is told once.
  async sheet(rows) {
    const asked = rows.map((row) => this.set.tableRow[row]).join();
    if (!this.sheets.has(asked)) this.sheets.set(asked, this.fetchSheet(asked));
    if (this.sheets.size > MOST_SHEETS) {
      const [oldest, address] = this.sheets.entries().next().value;
      this.sheets.delete(oldest);
      address.then((found) => found && URL.revokeObjectURL(found));
    }
    return this.sheets.get(asked);
  }

  async fetchSheet(asked) {
    const response = await fetch(here(`/study/${studyShown()}/thumbnails/${encodeURIComponent(this.set.arm.name)}?rows=${asked}&data=${encodeURIComponent(this.set.header.set.data_hash)}`));
    if (response.ok) return URL.createObjectURL(await response.blob());
    const text = await response.text();
    try {
      this.tell(JSON.parse(text));
    } catch {
      this.tell({ problem: text });
    }
    return null;
  }

  tell(told) {
    if (this.problem) return;
    this.problem = told;
    const kept = this.set.arm.graphs?.thumbnails_url ? 'Shown are those that were kept for Graphs, and of other pairs the mark of their kind.' : 'The mark of its kind stands for each pair.';
    this.notice.replaceChildren(node('p', { class: 'note' }, `${String(told.problem ?? told.detail ?? 'The pictures of these pairs cannot be read').replace(/\.\s*$/, '')}. ${kept}`,
      told.command ? [' This brings them back: ', node('code', {}, told.command)] : null));
  }

  // The arm's graphs, whose step may not be done: null.
  graphs() {
    const { graphs } = this.set.arm;
    this.drawn ??= graphs ? loadPairs(graphs).then((data) => {
      data.rowByUid = new Map(Array.from({ length: data.count }, (_, row) => [data.uids(row), row]));
      return data;
    }) : Promise.resolve(null);
    return this.drawn;
  }

  async fillFromGraphs(squares) {
    const data = await this.graphs();
    if (!data?.thumbnail) return;
    const { size, columns } = data.header.thumbnails;
    for (const square of squares) {
      const drawn = data.rowByUid.get(this.set.uids(Number(square.dataset.row)));
      const cell = drawn === undefined ? -1 : data.thumbnail[drawn];
      if (cell >= 0) paint(square, here(data.set.thumbnails_url), cell % columns, columns, Math.floor(cell / columns), data.sheet.naturalHeight / size);
    }
  }
}

// One cell of a sheet of `columns` by `lines` fills the square.
function paint(square, address, column, columns, line = 0, lines = 1) {
  const place = (at, of) => (of > 1 ? (100 * at) / (of - 1) : 0);
  square.classList.remove('none');
  square.replaceChildren();
  Object.assign(square.style, {
    backgroundImage: `url("${address}")`, backgroundSize: `${columns * 100}% ${lines * 100}%`, backgroundPosition: `${place(column, columns)}% ${place(line, lines)}%`,
  });
}
