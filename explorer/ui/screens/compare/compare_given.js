// The same picture, which no model drew, shown to every model of the comparison in place of what each of them draws.

import { fetchPayload } from './charts.js';
import { decodeColumn } from './maps.js';

export const DRAWN = 'drawn';
export const GIVEN = 'given';
export const PICTURES = [[DRAWN, 'Drawn', 'What each model draws from the same noise'],
  [GIVEN, 'Given picture', 'One picture of the concept, with the same noise in it, shown to every model: a painted scene, where the object is known, or a training picture of the control']];

export class GivenPictures {
  constructor(screen) {
    this.screen = screen;
    this.forget();
  }

  // Of another comparison there are other pictures.
  forget() {
    this.found = new Map();
  }

  // What failed is tried again.
  retry() {
    for (const [model, column] of this.found) if (column.failed) this.found.delete(model);
  }

  // A column of the picture for every column that was drawn; asked for when it is first wanted. Of a graft whose sliders
  // moved nothing is kept.
  of(columns) {
    for (const model of this.found.keys()) if (!columns.some((column) => column.model === model)) this.found.delete(model);
    return columns.map((column) => {
      if (column.pending) return column;
      if (!this.found.has(column.model)) this.ask(column);
      return this.found.get(column.model);
    });
  }

  async ask({ model, settings: { prompt, seed } }) {
    const { found } = this;
    found.set(model, { pending: true, model, note: 'Looking at the picture…' });
    try {
      found.set(model, decodeColumn(await fetchPayload(`/live/given.json?${new URLSearchParams({ model, prompt, seed })}`)));
    } catch (error) {
      found.set(model, { pending: true, failed: true, model, note: error.message });
    }
    if (found === this.found && !this.screen.signal.aborted) this.screen.picturesChanged();
  }
}
