// Columns of numbers and texts as typed arrays: what `explorer/alignment/graph_columns.py` wrote, read without parsing.

import { here } from './address.js';

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint32: Uint32Array, uint8: Uint8Array };

export async function fetchBytes(url) {
  const response = await fetch(here(url));
  if (!response.ok) throw new Error(await response.text());
  return response.arrayBuffer();
}

export class Columns {
  // `header` says where each column stands in `bytes`; `lacking` is told with the name of one that is not there.
  constructor(header, bytes, lacking) {
    Object.assign(this, { columns: header, bytes, lacking });
    this.views = new Map();
  }

  column(name) {
    if (!this.views.has(name)) {
      const found = this.columns[name];
      if (!found) throw new Error(this.lacking(name));
      const size = found.shape.reduce((product, length) => product * length, 1);
      this.views.set(name, new ARRAYS[found.dtype](this.bytes, found.offset, size));
    }
    return this.views.get(name);
  }

  // A function row -> text; a text is decoded when it is first asked for.
  texts(name) {
    const [bytes, ends] = [this.column(name), this.column(`${name}_ends`)];
    const decoder = new TextDecoder();
    const kept = new Array(ends.length);
    return (row) => (kept[row] ??= decoder.decode(bytes.subarray(row ? ends[row - 1] : 0, ends[row])));
  }
}
