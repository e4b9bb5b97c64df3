// A threshold that is found on one half of the pairs and graded on the other, which had no say in it: the library's answer.

import { count, fetchPayload, node, number, select, showProblem } from './charts.js';
import { percent } from './defence_charts.js';

const CRITERIA = [['f1', 'the best F1'], ['half-the-poison', 'half of the poison gone'], ['cut', 'the cut as it is']];
const MEASURES = [['poison_removed', 'Poison removed', percent], ['benign_lost', 'Benign lost', percent], ['precision', 'Precision', percent], ['f1', 'F1', (value) => number(value, 3)]];

export class DefenceHalves {
  constructor(screen) {
    this.screen = screen;
    this.criterion = CRITERIA[0][0];
    this.button = node('button', { type: 'button', class: 'plain-button', onclick: () => this.choose() }, 'Choose and grade');
    this.why = node('p', { class: 'note' });
    this.answer = node('div', { role: 'status' });
    this.element = node('section', { class: 'defence-halves', 'aria-label': 'Choosing on one half' },
      node('h3', {}, 'Choose on one half, grade on the other'),
      node('p', { class: 'note' }, 'A threshold looks better on the pairs it was chosen by. Here one half of the pairs chooses it, and the other grades it.'),
      node('div', { class: 'defence-bar' }, select('Chosen for', CRITERIA, this.criterion, (value) => { this.criterion = value; }), this.button), this.why, this.answer);
  }

  // After every change of the filter: an answer is of the threshold that it found.
  show() {
    const { state, set } = this.screen;
    const why = !set.recorded ? 'Nobody recorded which of these pairs are poison, so nothing can be graded.'
      : !state.view.truth ? 'This needs to know what is poison: tick “show what is poison”.'
        : !state.active.score || state.filter.parts.length > 1 ? 'This takes a filter of one score.' : '';
    this.button.disabled = Boolean(why);
    this.why.textContent = why;
    if (why || JSON.stringify(state.recipe) !== this.found) this.answer.replaceChildren();
  }

  async choose() {
    const { screen } = this;
    const { name, stamp } = screen.set.arm;
    const asked = JSON.stringify(screen.state.recipe);
    this.button.disabled = true;
    try {
      const told = await fetchPayload(`/export/filter-halves.json?${new URLSearchParams({ arm: name, stamp, recipe: asked, criterion: this.criterion })}`);
      if (asked !== JSON.stringify(screen.state.recipe) || this.why.textContent) return;
      screen.change({ cut: { threshold: told.threshold } });
      this.found = JSON.stringify(screen.state.recipe);
      this.answer.replaceChildren(...this.table(told));
    } catch (error) {
      showProblem(this.answer, 'No threshold was chosen', error, () => this.choose());
    } finally {
      this.button.disabled = Boolean(this.why.textContent); // the filter may have become one that this does not take
    }
  }

  table({ threshold, seed, chosen_on: chosen, graded_on: graded }) {
    const cell = ({ grade }, [name, , words]) => {
      if (!grade) return node('td', { class: 'note' }, 'unknown');
      if (!grade[name]) return node('td', { class: 'note' }, 'of nothing');
      const { value, low, high } = grade[name];
      return node('td', { class: 'figure' }, words(value, 1), node('span', { class: 'note' }, ` ${words(low, 1)} to ${words(high, 1)}`));
    };
    const line = (title, half) => node('tr', {}, node('th', { scope: 'row' }, title), node('td', { class: 'figure' }, count(half.pairs)), MEASURES.map((measure) => cell(half, measure)));
    const ungraded = chosen.grade && graded.grade ? '' : ' A half without pairs known to be poison and pairs known to be benign has no grade.';
    return [node('p', {}, `Threshold ${number(threshold, 4)}, now the cut above. 95 % intervals; the halves hang on a hash of seed ${seed} and uid.${ungraded}`),
      node('div', { class: 'scroll' }, node('table', { class: 'inspector-scores' },
        node('thead', {}, node('tr', {}, ['', 'Pairs', ...MEASURES.map(([, title]) => title)].map((title) => node('th', { scope: 'col' }, title)))),
        node('tbody', {}, line('the half that chose', chosen), line('the other half', graded))))];
  }
}
