// What a model draws that was really trained on what a filter left: points on the slider, and the pictures of the nearest.

import { here } from './address.js';
import { count, missingStep, node, scrollable } from './charts.js';
import { percent } from './defence_charts.js';

const SHOWN = 56; // pixels of a picture
const OF_NOUNS = { unpoisoned: 'Of the nouns that poison does not aim at', all: 'Of all nouns' };
const GROUPS = { pool: ['poisoned', 'poison may aim at this noun'], other: ['benign', 'no poison aims at this noun'] };

export class DefenceRetrained {
  constructor(screen) {
    Object.assign(this, { screen, found: screen.retrained });
    this.words = node('p', { class: 'retrained-words' });
    this.strip = scrollable('retrained-strip', 'What the retrained models draw');
    this.element = node('section', { class: 'defence-retrained', 'aria-label': 'Trained on what a filter left' }, node('h3', {}, 'Does it help? Models trained on what a filter left'), this.words, this.strip);
    this.arm = this.found.arms?.[screen.set.arm.name];
    if (this.found.missing) this.strip.replaceChildren(missingStep(firstStep(this.found.missing, screen.set.arm)));
    else if (this.found.problem) this.words.textContent = this.found.problem;
    else if (!this.arm?.models.length) this.words.replaceChildren(`No model has been trained on what a filter leaves of ${screen.set.arm.name}. `, node('code', {}, screen.set.arm.command));
  }

  get models() { return this.arm?.models ?? []; }

  // Models by the score that is moved, and the one from which nothing was dropped; all where there is none by it.
  near() {
    const { active } = this.screen.state;
    const own = this.models.filter(({ recipe }) => recipe.score && recipe.score === active.score && recipe.remove === active.remove);
    return own.length ? [...new Set([...this.models.filter(({ removed }) => removed === 0), ...own])] : this.models;
  }

  nearest() {
    const { removed } = this.screen.result;
    const far = (model) => Math.abs(model.removed - removed);
    return this.near().reduce((best, model) => (best === null || far(model) < far(best) ? model : best), null);
  }

  // The points under the slider.
  drawMarks(root, length) {
    const own = new Set(this.near());
    root.replaceChildren(...this.models.map((model) => node('button', {
      type: 'button', class: `slider-mark ${own.has(model) ? 'own' : ''}`, style: `left:calc(8px + (100% - 16px) * ${Math.min(1, model.removed / (length || 1))})`, title: this.told(model),
      'aria-label': `Go to the model that was ${this.told(model)}`, onclick: () => this.screen.cutAtRank(model.removed, true),
    })));
  }

  told(model) {
    const { recipe, removed, name } = model;
    if (removed === 0) return 'trained on all pairs';
    const how = recipe.random !== undefined ? 'at random' : recipe.known_poison ? 'that are known to be poison' : `by ${this.screen.set.scores.get(recipe.score)?.title ?? name}`;
    return `trained after dropping ${count(removed)} ${how}`;
  }

  show() {
    const model = this.nearest();
    if (!model || model === this.shown) { if (model) this.describe(model); return; }
    this.shown = model;
    this.describe(model);
    const { concepts, control } = this.found;
    const all = this.models.find(({ removed }) => removed === 0);
    const lines = [[`dropped ${model.removed ? count(model.removed) : 'nothing'}`, model], ['dropped nothing', all === model ? null : all], ['the arm’s own model', this.arm.unfiltered], ['benign control', control]].filter(([, entry]) => entry);
    this.strip.replaceChildren(node('table', { class: 'retrained-table' },
      node('thead', {}, node('tr', {}, node('td'), ...concepts.map(({ concept, group }) => node('th', { scope: 'col', class: GROUPS[group]?.[0], title: GROUPS[group] ? `${concept}: ${GROUPS[group][1]}` : concept }, concept)))),
      node('tbody', {}, lines.map(([title, entry]) => node('tr', {}, node('th', { scope: 'row' }, title, node('span', { class: 'note' }, accuracyWords(entry))),
        ...concepts.map(({ concept }, column) => node('td', {}, this.picture(entry.strip_row, column, `${concept}, ${title}`))))))));
  }

  describe(model) {
    const { removed } = this.screen.result;
    const others = this.near() === this.models && this.screen.state.active.score ? ' No model was trained by this score.' : '';
    this.words.textContent = `The model in the first row was ${this.told(model)}; the slider is at ${count(removed)}.${others}${againstWords(model)}`;
  }

  picture(row, column, label) {
    const { tile, strip_url: address, concepts } = this.found;
    const side = Math.min(SHOWN, tile);
    return node('span', { role: 'img', 'aria-label': label, class: 'retrained-picture', style: `width:${side}px;height:${side}px;background-image:url("${here(address)}");background-size:${concepts.length * side}px auto;background-position:-${column * side}px -${row * side}px` });
  }
}

// Before the step can be done, a model has to be trained.
const firstStep = ({ made, command }, arm) => ({
  made, lacks: 'First a model is trained on what the filter leaves; “Save the filter” below saves it as filter.json.', command: arm.command, cost: `Then: ${command}`,
});


function accuracyWords({ metrics, steps }) {
  const top = metrics?.top1 ?? {};
  const part = (name, words) => (top[name] ? `${words} ${percent(top[name].mean)}${rangeWords(top[name])}` : '');
  const found = [part('unpoisoned', 'not targeted') || part('all', 'all nouns'), part('poisoned', 'poisoned')].filter(Boolean);
  return [found.length ? `drawn right: ${found.join(', ')}` : '', steps ? `${count(steps)} steps` : ''].filter(Boolean).join('; ');
}

const rangeWords = ({ low, high }) => (low === null ? '' : ` (${percent(low)} to ${percent(high)})`);

// How much better than by dropping nothing, and than by dropping as many at random; empty where neither was trained. Over
// all nouns where it is not known which of them poison does not aim at.
function againstWords({ against_unfiltered: nothing, against_random: random, not_compared: otherwise = [] }) {
  const points = (share) => (100 * share).toFixed(0);
  const group = [nothing, random].some((against) => against?.top1.unpoisoned) ? 'unpoisoned' : 'all';
  const part = (against, words) => {
    const difference = against?.top1[group];
    if (!difference) return '';
    return `${points(difference.mean)} points${difference.low === null ? '' : ` (95 % ${points(difference.low)} to ${points(difference.high)})`} more than ${words}`;
  };
  const found = [part(nothing, 'after dropping nothing'), part(random, 'after dropping as many at random')].filter(Boolean);
  const apart = otherwise.length ? ` It was trained otherwise than ${otherwise.join(', ')}, and is not compared with it.` : '';
  return (found.length ? ` ${OF_NOUNS[group]} it draws ${found.join(', ')}.` : '') + apart;
}
