// The same painted scene shown to every model of the comparison, in place of what each of them draws.

import { fetchPayload } from './charts.js';
import { decodeColumn } from './maps.js';

export const DRAWN = 'drawn';
export const SCENE = 'scene';
export const PICTURES = [[DRAWN, 'Drawn', 'What each model draws from the same noise'],
  [SCENE, 'Painted scene', 'One painted scene of the concept, with the same noise in it, shown to every model: where the object is, is known']];

export class PaintedScenes {
  constructor(screen) {
    this.screen = screen;
    this.forget();
  }

  // Of another comparison there are other scenes.
  forget() {
    this.found = new Map();
  }

  // What failed is tried again.
  retry() {
    for (const [model, column] of this.found) if (column.failed) this.found.delete(model);
  }

  // A column of the scene for every column that was drawn; asked for when it is first wanted.
  of(columns) {
    return columns.map((column) => {
      if (column.pending) return column;
      if (!this.found.has(column.model)) this.ask(column);
      return this.found.get(column.model);
    });
  }

  async ask({ model, settings: { prompt, seed } }) {
    const { found } = this;
    found.set(model, { pending: true, model, note: 'Looking at the scene…' });
    try {
      found.set(model, decodeColumn(await fetchPayload(`/live/scene.json?${new URLSearchParams({ model, prompt, seed })}`)));
    } catch (error) {
      found.set(model, { pending: true, failed: true, model, note: error.message });
    }
    if (found === this.found && !this.screen.signal.aborted) this.screen.picturesChanged();
  }
}
