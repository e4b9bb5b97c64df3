// What is chosen on the screen: the filter and its steps back, what it is compared with, and what is looked at; and all of
// that in the address.

import { LONGEST_LINK, readChoices, writeChoices } from './address.js';
import { problemOf } from './defence_data.js';

const MOST_STEPS = 60;
export const DEFAULTS = { arm: '', filter: '', against: '', truth: '', gallery: '', order: 'borderline', page: '0', curve: 'roc', pair: '', drawn: '' };
const VIEW = { gallery: '', order: 'borderline', page: 0, curve: 'roc', pair: '' };

export const parsed = (text) => {
  try { return JSON.parse(text); } catch { return undefined; }
};

// A tenth of the pairs by the score that comes first: what the screen opens with.
export function firstFilter(set) {
  const score = set.header.scores[0];
  return { score: score.name, remove: score.remove, cut: { rank: Math.floor(set.count / 10) } };
}

export class FilterState {
  constructor(set) {
    Object.assign(this, { set, past: [], future: [], last: '' });
    this.filter = { parts: [firstFilter(set)], how: 'any', active: 0, against: null };
    this.view = { ...VIEW, truth: set.recorded };
    this.linked = true;
  }

  get recipe() { return this.filter.parts.length === 1 ? this.filter.parts[0] : { [this.filter.how]: this.filter.parts }; }

  get active() { return this.filter.parts[this.filter.active]; }

  // Replaces part of the filter; a drag of one thing is one step back.
  change(part, what = '') {
    if (!what || what !== this.last) this.past = [...this.past, this.filter].slice(-MOST_STEPS);
    this.last = what;
    this.future = [];
    this.filter = { ...this.filter, ...part };
  }

  // The next change is a step of its own.
  begin() { this.last = ''; }

  edit(part, what = '') {
    this.change({ parts: this.filter.parts.map((old, at) => (at === this.filter.active ? { ...old, ...part } : old)) }, what);
  }

  adopt(recipe) {
    const how = recipe.all ? 'all' : 'any';
    this.change({ parts: recipe[how] ?? [recipe], how, active: 0 });
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(this.filter);
    this.filter = from.pop();
    this.last = '';
  }

  // What a link names and these pairs do not have.
  follow() {
    const missing = [];
    const chosen = readChoices('d');
    for (const name of ['filter', 'against']) {
      if (!chosen[name]) continue;
      const recipe = parsed(chosen[name]);
      const problem = recipe && typeof recipe === 'object' ? problemOf(recipe, this.set) : 'a filter that cannot be read';
      if (problem) missing.push(problem);
      else if (name === 'filter') this.adopt(this.set.adopted(recipe));
      else this.filter = { ...this.filter, against: this.set.adopted(recipe) };
    }
    this.past = [];
    for (const name of Object.keys(VIEW)) if (chosen[name] !== undefined) this.view[name] = chosen[name];
    this.view.page = Math.max(0, Math.floor(Number(this.view.page)) || 0);
    if (chosen.truth) this.view.truth = chosen.truth === 'shown' && this.set.recorded;
    if (this.view.pair && this.set.rowByUid(this.view.pair) < 0) {
      missing.push(this.view.pair);
      this.view.pair = '';
    }
    return missing;
  }

  write(armShown) {
    const { set, view } = this;
    const [filter, against] = [this.recipe, this.filter.against].map((recipe) => (recipe ? JSON.stringify(recipe) : ''));
    this.linked = filter.length + against.length <= LONGEST_LINK;
    writeChoices('d', {
      ...view, arm: armShown, drawn: '', filter: this.linked && filter !== JSON.stringify(firstFilter(set)) ? filter : '', against: this.linked ? against : '',
      truth: view.truth === set.recorded ? '' : view.truth ? 'shown' : 'hidden',
    }, DEFAULTS);
  }
}
