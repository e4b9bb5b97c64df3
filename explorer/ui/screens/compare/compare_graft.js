// Surgery: parts of one model of the comparison put into another, drawn again while a slider moves.

import { fetchPayload, node } from './charts.js';

const PREVIEW_STEPS = 6;
const NAMES = {
  'cross-attention-keys-values': 'Cross-attention: keys and values',
  'cross-attention-queries-output': 'Cross-attention: queries and output',
  'self-attention': 'Self-attention',
  'feed-forward': 'Feed-forward',
  'transformer-norms-projections': 'Other parts of transformer blocks',
  convolutions: 'Convolutions',
  'time-embedding': 'Time embedding',
  'text-keys-values': 'Text: keys and values',
  'text-queries-output': 'Text: queries and output',
  'picture-attention': 'Picture: attention',
  'shared-attention': 'Picture and text: shared attention',
  modulation: 'Modulation',
  embedders: 'First and last layers',
};

export class GraftPanel {
  constructor(screen) {
    this.screen = screen;
    this.weights = new Map();
    const chooser = () => node('select', { class: 'plain-select', onchange: () => this.start() });
    [this.recipient, this.donor] = [chooser(), chooser()];
    this.picture = node('img', { alt: '', hidden: '' });
    this.caption = node('span', { role: 'status' });
    this.sliders = node('div', { class: 'graft-sliders' });
    this.element = node('details', { class: 'graft-panel not-in-talk', hidden: '', ontoggle: () => this.start() },
      node('summary', {}, 'Surgery: put parts of one model into another'),
      node('p', {}, 'At 0 a part is the first model’s own, at 1 the second’s. Where in a poisoned model does the damage sit: which parts bring the picture back?'),
      node('div', { class: 'graft-models' },
        node('label', { class: 'field' }, 'Model', this.recipient), node('label', { class: 'field' }, 'Parts from', this.donor)),
      node('div', { class: 'graft-body' }, node('figure', {}, this.picture, node('figcaption', {}, this.caption)), this.sliders));
  }

  // The columns that the models drew, whatever pictures are shown of them.
  get drawn() { return this.screen.columns.filter((column) => !column.pending); }

  // Nothing is drawn before somebody opens the panel.
  show() {
    const columns = this.drawn;
    const models = [...new Set(columns.map((column) => column.model))];
    this.element.hidden = models.length < 2;
    const key = JSON.stringify([this.screen.query, models]);
    if (this.key === key || this.element.hidden) return;
    this.key = key;
    const poisoned = columns.reduce((most, column) => (column.poisoned_concept_count > (most.poisoned_concept_count ?? -1) ? column : most), columns[0]);
    for (const select of [this.recipient, this.donor]) select.replaceChildren(...models.map((model) => node('option', { value: model }, model)));
    this.recipient.value = poisoned.model;
    this.donor.value = models.find((model) => model !== poisoned.model);
    this.start();
  }

  // Other models or another prompt: every part is the recipient's own again.
  start() {
    this.weights.clear();
    this.sliders.replaceChildren();
    this.caption.textContent = '';
    this.picture.hidden = true;
    if (this.element.open && !this.element.hidden) this.draw();
  }

  fit(groups) {
    if (this.sliders.childElementCount) return;
    this.sliders.replaceChildren(...groups.map(({ name, share }) => {
      const value = node('output', {}, '0');
      const moved = (steps) => (event) => {
        this.weights.set(name, Number(event.target.value));
        value.textContent = event.target.value;
        this.draw(steps);
      };
      return node('label', { class: 'graft-slider' },
        node('span', {}, NAMES[name] ?? name, node('small', {}, ` ${(100 * share).toFixed(1)} % of the weights`)),
        node('input', { type: 'range', min: 0, max: 1, step: 0.1, value: 0, oninput: moved(PREVIEW_STEPS), onchange: moved() }), value);
    }));
  }

  // One picture at a time; of those asked for meanwhile the last one alone is drawn.
  async draw(steps) {
    this.asked = { steps };
    if (this.drawing) return;
    this.drawing = true;
    while (this.asked && !this.screen.signal.aborted) {
      const asked = this.address(this.asked.steps);
      this.asked = null;
      this.caption.textContent = 'Drawing…';
      try {
        const found = await fetchPayload(asked);
        this.fit(found.groups);
        this.picture.src = found.image;
        this.picture.alt = `${this.recipient.value} with parts of ${this.donor.value}`;
        this.picture.hidden = false;
        this.caption.textContent = `${this.picture.alt}, ${found.steps} steps`;
      } catch (error) {
        this.caption.textContent = `Not drawn: ${error.message}`;
      }
    }
    this.drawing = false;
  }

  address(steps) {
    const { settings } = this.drawn[0];
    const weights = [...this.weights].filter(([, weight]) => weight).map(([name, weight]) => `${name}:${weight}`);
    return `/live/graft.json?${new URLSearchParams({
      recipient: this.recipient.value, donor: this.donor.value, prompt: settings.prompt, seed: settings.seed,
      steps: steps ? Math.min(steps, settings.steps) : settings.steps, guidance_scale: settings.guidance_scale,
      negative_prompt: settings.negative_prompt, weights: weights.join(','),
    })}`;
  }
}
