// Surgery: parts of one model of the comparison put into another, drawn again while a slider moves; kept as a column if
// wanted, with its maps and numbers.

import { fetchPayload, node } from './charts.js';
import { isPhone } from './compare_talk.js';
import { leftOutWords, readGraft, unreadableWords } from './graft_address.js';
import { GROUPS, partWords } from './graft_names.js';
import { decodeColumn } from './maps.js';

const PREVIEW_STEPS = 6;

export class GraftPanel {
  constructor(screen) {
    this.screen = screen;
    this.weights = new Map();
    this.wanted = false; // as a column
    const chooser = () => node('select', { class: 'plain-select', onchange: () => this.start() });
    [this.recipient, this.donor] = [chooser(), chooser()];
    this.picture = node('img', { alt: '', hidden: '' });
    this.caption = node('span', { role: 'status' });
    this.problem = node('p', { class: 'kind-problem', role: 'alert' });
    this.sliders = node('div', { class: 'graft-sliders' });
    this.keep = node('button', { type: 'button', class: 'plain-button', 'aria-pressed': 'false', title: 'Beside the models above, with maps and numbers; it follows the sliders', onclick: () => this.want(!this.wanted) }, 'Show as a column');
    this.told = node('span', { class: 'graft-told' }); // in place of the title, on a phone and while it is a column
    this.element = node('details', { class: 'graft-panel', hidden: '', ontoggle: () => { if (!this.wanted) this.draw(); } },
      node('summary', {}, node('span', { class: 'graft-title' }, 'Surgery: put parts of one model into another'), this.told),
      node('p', { class: 'graft-about' }, 'At 0 a part is the first model’s own, at 1 the second’s. Where in a poisoned model does the damage sit: which parts bring the picture back?'),
      node('div', { class: 'graft-models' },
        node('label', { class: 'field' }, node('span', {}, 'Model'), this.recipient), node('label', { class: 'field' }, node('span', {}, 'Parts from'), this.donor), this.keep),
      this.problem,
      node('div', { class: 'graft-body' }, node('figure', {}, this.picture, node('figcaption', {}, this.caption)), this.sliders));
  }

  // The columns that the models drew, whatever pictures are shown of them.
  get drawn() { return this.screen.columns.filter((column) => !column.graft); }

  // Which parts move, as the server reads them: `feed-forward:0.5`; empty while none does.
  get moving() { return [...this.weights].filter(([, weight]) => weight).map(([name, weight]) => `${name}:${weight}`).join(','); }

  // Of which comparison's models the picture is.
  get pair() { return JSON.stringify([this.key, this.recipient.value, this.donor.value]); }

  // What an address says of the column; null while there is none.
  get linked() { return this.wanted && this.moving ? [this.recipient.value, this.donor.value, this.moving].join('~') : null; }

  // Nothing is drawn before somebody opens the panel, wants the column, or comes with an address that names one.
  show() {
    const columns = this.drawn;
    const models = [...new Set(columns.map((column) => column.model))];
    this.element.hidden = models.length < 2 || columns.some((column) => column.pending);
    const key = JSON.stringify([this.screen.query, models]);
    if (this.key === key || this.element.hidden) return;
    this.key = key;
    if (String(this.models) !== String(models)) this.offer(columns, models);
    const { state } = this.screen;
    if (state.graft) this.take(state.graft, models);
    state.graft = null; // from now on it is here
    this.picture.hidden = true;
    this.draw();
  }

  offer(columns, models) {
    this.models = models;
    this.forget();
    const poisoned = columns.reduce((most, column) => (column.poisoned_concept_count > (most.poisoned_concept_count ?? -1) ? column : most), columns[0]);
    for (const select of [this.recipient, this.donor]) select.replaceChildren(...models.map((model) => node('option', { value: model }, model)));
    this.recipient.value = poisoned.model;
    this.donor.value = models.find((model) => model !== poisoned.model);
  }

  take(text, models) {
    const named = readGraft(text, models);
    this.element.open = true;
    if (!named) { this.complain(unreadableWords(text)); return; }
    [this.recipient.value, this.donor.value, this.weights] = [named.recipient, named.donor, named.weights];
    this.sliders.replaceChildren();
    this.press(this.weights.size > 0);
    if (named.leftOut.length) this.complain(leftOutWords(named.leftOut));
  }

  // Opens the panel, so that the words are seen.
  complain(words) {
    this.problem.textContent = words;
    this.element.open = true;
  }

  forget() {
    this.problem.textContent = '';
    this.weights.clear();
    this.sliders.replaceChildren();
    this.caption.textContent = '';
    this.picture.hidden = true;
  }

  // Other models: every part is the recipient's own again.
  start() {
    this.forget();
    this.screen.showGraft(null);
    this.draw();
  }

  press(wanted) {
    this.wanted = wanted;
    this.keep.setAttribute('aria-pressed', String(wanted));
    this.element.classList.toggle('wanted', wanted);
    if (!wanted) return;
    this.screen.top.fold(true); // its sliders take the room of the choice
    if (this.moving && isPhone()) this.element.open = false; // on so small a page they cover the columns
  }

  want(wanted) {
    this.press(wanted);
    if (wanted) this.draw(); else this.screen.showGraft(null);
  }

  fit(groups) {
    if (this.sliders.childElementCount) return;
    this.sliders.replaceChildren(...groups.map(({ name, share }) => {
      const weight = this.weights.get(name) ?? 0;
      const value = node('output', {}, String(weight));
      const moved = (steps) => (event) => {
        this.problem.textContent = '';
        this.weights.set(name, Number(event.target.value));
        value.textContent = event.target.value;
        this.draw(steps);
      };
      return node('label', { class: 'graft-slider' },
        node('span', { title: `${(100 * share).toFixed(1)} % of the weights` }, GROUPS[name] ?? name, node('small', {}, ` ${(100 * share).toFixed(1)} % of the weights`)),
        node('input', { type: 'range', min: 0, max: 1, step: 0.1, value: weight, oninput: moved(PREVIEW_STEPS), onchange: moved() }), value);
    }));
  }

  // One picture at a time; of those asked for meanwhile the last one alone is drawn. A column is drawn with all steps.
  async draw(steps) {
    this.told.textContent = this.moving ? `Surgery: ${partWords(this.weights)} of ${this.donor.value} in ${this.recipient.value}` : 'Surgery: move a slider';
    if (this.element.hidden || !(this.element.open || this.wanted)) return;
    this.asked = { steps };
    if (this.drawing) return;
    this.drawing = true;
    while (this.asked && !this.screen.signal.aborted) {
      const column = this.wanted && Boolean(this.moving) && !this.asked.steps;
      const { pair, asked } = { pair: this.pair, asked: this.address(this.asked.steps, column) };
      this.asked = null;
      this.caption.textContent = 'Drawing…';
      try {
        const found = await fetchPayload(asked);
        if (this.pair === pair) this.tell(found, column);
      } catch (error) {
        if (this.pair !== pair) continue;
        this.screen.showGraft(null); // its sliders say something else now
        this.caption.textContent = `Not drawn: ${error.message}`;
        this.element.open = true;
        this.beginAnew(error);
      }
    }
    this.drawing = false;
  }

  // Where the address names parts that these models cannot give there are no sliders yet: they begin at 0.
  beginAnew(error) {
    if (this.sliders.childElementCount || !this.moving) return;
    this.problem.textContent = `The graft that the address names cannot be drawn: ${error.message}`;
    this.weights.clear();
    this.press(false);
    this.asked = {};
  }

  tell(found, column) {
    this.fit(found.groups);
    this.picture.src = found.image;
    this.picture.alt = `${this.recipient.value} with parts of ${this.donor.value}`;
    this.picture.hidden = false;
    const none = this.wanted && !this.moving;
    this.caption.textContent = `${this.picture.alt}, ${found.steps} steps${found.caveat ? `; ${found.caveat}` : ''}${none ? '. Move a slider: with every part at 0 it is the model itself, and no column of its own.' : ''}`;
    if (none) this.screen.showGraft(null);
    if (column && this.wanted) this.screen.showGraft(decodeColumn(found));
  }

  address(steps, column) {
    const { settings } = this.drawn[0];
    return `/live/graft.json?${new URLSearchParams({
      recipient: this.recipient.value, donor: this.donor.value, prompt: settings.prompt, seed: settings.seed,
      steps: steps ? Math.min(steps, settings.steps) : settings.steps, guidance_scale: settings.guidance_scale,
      negative_prompt: settings.negative_prompt, weights: this.moving, column,
    })}`;
  }
}
