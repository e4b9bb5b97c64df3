// Points of the plane sorted into square cells, so that the nearest one and those within an outline are found at once.

const CELLS = 128;

export class PointGrid {
  // `layout` is x and y of every point in turn, within [-1, 1].
  constructor(layout) {
    this.layout = layout;
    const count = layout.length / 2;
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const cells = new Uint16Array(count);
    for (let row = 0; row < count; row += 1) {
      cells[row] = cellOf(layout[2 * row + 1]) * CELLS + cellOf(layout[2 * row]);
      this.starts[cells[row] + 1] += 1;
    }
    for (let cell = 0; cell < CELLS * CELLS; cell += 1) this.starts[cell + 1] += this.starts[cell];
    const next = this.starts.slice();
    this.rows = new Uint32Array(count);
    for (let row = 0; row < count; row += 1) this.rows[next[cells[row]]++] = row;
  }

  // Calls `visit(row, x, y)` for the points of every cell that the box touches.
  visit(left, bottom, right, top, visit) {
    if (right < -1 || left > 1 || top < -1 || bottom > 1) return;
    const [first, last] = [cellOf(left), cellOf(right)];
    for (let line = cellOf(bottom); line <= cellOf(top); line += 1) {
      for (let at = this.starts[line * CELLS + first]; at < this.starts[line * CELLS + last + 1]; at += 1) {
        const row = this.rows[at];
        visit(row, this.layout[2 * row], this.layout[2 * row + 1]);
      }
    }
  }

  // How many points lie in the cells that the box touches.
  inBox(left, bottom, right, top) {
    if (right < -1 || left > 1 || top < -1 || bottom > 1) return 0;
    return this.inCells(cellOf(left), cellOf(bottom), cellOf(right), cellOf(top));
  }

  // How many lie in the cells that are wholly within the box.
  surelyInBox(left, bottom, right, top) {
    const [first, lowest] = [left, bottom].map((low) => (low < -1 ? 0 : cellOf(low) + 1));
    const [last, highest] = [right, top].map((high) => (high > 1 ? CELLS - 1 : cellOf(high) - 1));
    return last < first ? 0 : this.inCells(first, lowest, last, highest);
  }

  inCells(first, lowest, last, highest) {
    let count = 0;
    for (let line = lowest; line <= highest; line += 1) count += this.starts[line * CELLS + last + 1] - this.starts[line * CELLS + first];
    return count;
  }

  // The nearest point within `radius`; -1 where there is none.
  nearest(x, y, radius) {
    let [best, shortest] = [-1, radius * radius];
    this.visit(x - radius, y - radius, x + radius, y + radius, (row, px, py) => {
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance <= shortest) [best, shortest] = [row, distance];
    });
    return best;
  }

  // Rows within a closed outline `[[x, y], ...]` by the even-odd rule, ascending.
  within(outline) {
    const [xs, ys] = [outline.map(([x]) => x), outline.map(([, y]) => y)];
    const found = [];
    const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.visit(left, bottom, right, top, (row, x, y) => {
      if (x < left || x > right || y < bottom || y > top) return;
      let inside = false;
      for (let at = 0, before = xs.length - 1; at < xs.length; before = at, at += 1) {
        if ((ys[at] > y) !== (ys[before] > y)
          && x < ((xs[before] - xs[at]) * (y - ys[at])) / (ys[before] - ys[at]) + xs[at]) inside = !inside;
      }
      if (inside) found.push(row);
    });
    return Int32Array.from(found).sort();
  }

  // The nearest point within 45 degrees of `direction`; the start itself where there is none.
  towards(from, [right, up]) {
    const { layout } = this;
    let [best, shortest] = [from, Infinity];
    for (let row = 0; row < layout.length / 2; row += 1) {
      const dx = layout[2 * row] - layout[2 * from];
      const dy = layout[2 * row + 1] - layout[2 * from + 1];
      const along = dx * right + dy * up;
      const distance = dx * dx + dy * dy;
      if (row !== from && along > 0 && Math.abs(dx * up - dy * right) <= along && distance < shortest) [best, shortest] = [row, distance];
    }
    return best;
  }
}

function cellOf(coordinate) {
  return Math.min(CELLS - 1, Math.max(0, Math.floor(((coordinate + 1) / 2) * CELLS)));
}
