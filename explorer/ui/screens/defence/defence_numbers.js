// What a cut does, in figures and in one sentence; all of it follows the slider.

import { count, node, number } from './charts.js';
import { gradeIntervals } from './defence_intervals.js';
import { percent, reach } from './defence_charts.js';

export class DefenceNumbers {
  constructor(screen) {
    this.screen = screen;
    this.cards = node('div', { class: 'defence-cards' });
    this.sentence = node('p', { class: 'defence-sentence', role: 'status' });
    this.told = node('p', { class: 'note' });
    this.element = node('section', { 'aria-label': 'What the filter does' }, this.cards, this.sentence, this.told);
  }

  show() {
    const { result, set, state } = this.screen;
    const { alignment } = set.header;
    const exact = result.alignment;
    this.cards.replaceChildren(
      card('Removed', count(result.removed), `of ${count(set.count)}; ${count(set.count - result.removed)} stay`),
      ...(result.grade ? this.graded(result) : []),
      card('AD of what remains', number(exact.ad), Number.isFinite(exact.ad) ? `was ${number(alignment.ad)}; feature ${number(exact.feature_ad)}, structure ${number(exact.structure_ad)}` : this.unknown(), 'remaining'),
    );
    this.sentence.replaceChildren(...[this.words()].flat());
    this.told.textContent = [
      state.view.truth ? '' : set.recorded ? 'Which pairs are poison is hidden; a filter never reads it.' : 'Nobody recorded which of these pairs are poison, so no filter can be graded here.',
      state.view.truth && set.header.set.unrecorded ? `Of ${count(set.header.set.unrecorded)} pairs nobody recorded whether they are poison; they are in no share but the first.` : '',
      result.unscored ? `${count(result.unscored)} pairs have no such score and stay.` : '',
      result.spared ? `${count(result.spared)} pairs stay because of the quota.` : '',
    ].filter(Boolean).join(' ');
  }

  // The structure part of AD is stored along each score; of other filters the app measures it when it is asked.
  unknown() {
    const button = node('button', { type: 'button', class: 'plain-button', onclick: () => this.screen.measure() }, 'Measure it');
    return [`feature ${number(this.screen.result.alignment.feature_ad)} `, button];
  }

  graded({ grade, cells }) {
    const ranges = gradeIntervals(cells);
    const words = { poison_removed: 'Poison removed', benign_lost: 'Benign lost', precision: 'Precision', f1: 'F1' };
    const below = {
      poison_removed: `${count(cells.caught)} of ${count(cells.caught + cells.missed)} (recall)`, benign_lost: `${count(cells.lost)} of ${count(cells.lost + cells.spared)}`,
      precision: 'of what goes, poison', f1: 'precision and recall in one',
    };
    return Object.entries(words).map(([name, title]) => card(title, name === 'f1' ? number(grade[name], 3) : percent(grade[name], 1),
      [node('span', { class: 'range', title: '95 %, Wilson’s' }, rangeWords(ranges[name], name)), ` ${below[name]}`], { poison_removed: 'poisoned', benign_lost: 'benign' }[name]));
  }

  words() {
    const { result, set, state } = this.screen;
    const { grade, cells } = result;
    if (!grade) return `This drops ${count(result.removed)} of ${count(set.count)} pairs.`;
    if (cells.caught + cells.missed === 0) return `${withoutPoison(set.header.set)} This drops ${percent(grade.benign_lost, 1)} of the benign pairs.`;
    const part = state.active;
    const half = state.filter.parts.length === 1 && part.score && set.scores.get(part.score).remove === part.remove ? set.scores.get(part.score).at_half_the_poison?.benign_lost_share : null;
    const here = `This drops ${percent(grade.poison_removed, 1)} of the poison and ${percent(grade.benign_lost, 1)} of the benign pairs.`;
    return half ? [here, ` Dropping 50 % of the poison costs ${percent(half.value, 1)} of the benign `, node('span', { class: 'note' }, `(${reach(half, (value) => percent(value, 1))}; in the paper 21 %)`)] : here;
  }
}

const withoutPoison = ({ unrecorded }) => (unrecorded ? `No pair here is recorded as poison; of ${count(unrecorded)} nobody recorded it.` : 'No pair here is poison: whatever goes is lost.');

const rangeWords = (range, name) => {
  if (!range) return '';
  const words = name === 'f1' ? (value) => number(value, 3) : (value) => percent(value, 1);
  return `${words(range.low)} to ${words(range.high)};`;
};

const card = (title, value, below, kind = '') => node('div', { class: `defence-card ${kind}` },
  node('span', { class: 'card-title' }, title), node('strong', { class: 'figure' }, value), node('span', { class: 'card-below' }, below));
