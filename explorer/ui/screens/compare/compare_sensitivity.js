// Sensitivity on request: what it will cost, a button for each word, and the measurement, step after step.

import { fetchPayload, node } from './charts.js';
import { SENSITIVITY, isWord, kindSentence } from './compare_kinds.js';
import { decodeSensitivity } from './maps.js';

export class SensitivityRequests {
  constructor(screen) {
    this.screen = screen;
    this.running = null;
    this.problem = null;
    this.element = node('div', { class: 'kind-note' });
  }

  // The sentence about the kind of map that is shown, and what of it can be measured.
  show() {
    const { query, state: { kind } } = this.screen;
    if (this.query !== query) [this.query, this.problem] = [query, null];
    const parts = [kindSentence(kind)];
    if (kind === SENSITIVITY) parts.push(...this.running ? [this.progress()] : this.offers());
    if (kind === SENSITIVITY && this.problem) parts.push(node('span', { role: 'alert', class: 'kind-problem' }, `Not measured: ${this.problem}`));
    // A press of the mouse takes the focus from a word, which draws again: its button must outlive that, or the click is lost.
    const said = parts.map((part) => part.outerHTML ?? String(part)).join('');
    if (said === this.said && this.element.hasChildNodes()) return;
    this.said = said;
    const focused = this.element.contains(document.activeElement);
    this.element.replaceChildren(...parts);
    if (focused) this.element.querySelector('button')?.focus({ preventScroll: true });
  }

  offers() {
    const columns = this.columns();
    const rows = this.screen.rows.filter((row) => columns.some((column) => this.missing(column, row).length));
    return rows.map((row) => {
      const steps = columns.reduce((total, column) => total + this.missing(column, row).length, 0);
      const { measurable: { draws, calls } } = columns[0];
      const seconds = columns.reduce((total, column) => total + this.missing(column, row).length * calls * secondsPerCall(column), 0);
      const cost = `${steps * calls} network calls (${draws} random words at ${columns[0].measurable.steps.length} steps, ${columns.length} ${columns.length === 1 ? 'model' : 'models'}), about ${roughly(seconds)}`;
      return node('span', { class: 'kind-offer' }, node('button', {
        type: 'button', class: 'plain-button', onclick: () => this.measure(row),
      }, `Measure “${columns[0].words[row]}”`), ` ${cost}`);
    });
  }

  progress() {
    const { word, done, total } = this.running;
    return node('span', { class: 'kind-offer', role: 'status' }, node('button', {
      type: 'button', class: 'plain-button', onclick: () => { this.running.stopped = true; },
    }, 'Stop'), ` Measuring “${word}”: ${done} of ${total} steps`);
  }

  // A model that stands in two columns drew one picture.
  columns() {
    return [...new Set(this.screen.shown)].filter((column) => !column.pending && !column.no_sensitivity);
  }

  missing(column, row) {
    if (!isWord(column, row)) return [];
    const measured = column.sensitivity.get(row);
    return column.measurable.steps.filter((step) => !measured?.has(step));
  }

  // One model after the other, so that none is loaded twice; what is measured stays when it ends before.
  async measure(row) {
    const asked = this.columns().flatMap((column) => this.missing(column, row).map((step) => [column, step]));
    const running = { word: asked[0][0].words[row], done: 0, total: asked.length, stopped: false };
    const { query } = this;
    [this.running, this.problem] = [running, null];
    this.show();
    try {
      for (const [column, step] of asked) {
        if (running.stopped || this.screen.signal.aborted || !this.screen.shown.includes(column)) break;
        const measured = decodeSensitivity(await fetchPayload(address(column, row, step)));
        if (!column.sensitivity.has(row)) column.sensitivity.set(row, new Map());
        for (const [at, each] of measured) column.sensitivity.get(row).set(at, each);
        running.done += 1;
        this.screen.draw();
      }
    } catch (error) {
      if (this.query === query) this.problem = error.message;
    }
    this.running = null;
    if (!this.screen.signal.aborted) this.screen.draw();
  }
}

// Of a live picture by its result's name, of a precomputed one by its model.
function address(column, word, step) {
  const which = column.token ? { token: column.token } : { model: column.model };
  return `/live/sensitivity.json?${new URLSearchParams({ ...which, word, step })}`;
}

// The generation itself says how long a call takes: one or, with guidance, two of one picture a step.
function secondsPerCall({ seconds, settings, guidance }) {
  return seconds / (settings.steps * (guidance ? 2 : 1));
}

const roughly = (seconds) => (seconds < 1 ? '1 s' : seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);
