// Which concepts pay for a cut: the share that each loses, and those that it nearly erases.

import { count, node } from './charts.js';
import { percent } from './defence_charts.js';
import { collateral } from './defence_maths.js';

const MOST = 10;
const NEARLY = 0.9;

export class DefenceCollateral {
  constructor(screen) {
    this.screen = screen;
    this.words = node('p', { class: 'note' });
    this.list = node('ol', { class: 'collateral-list' });
    this.element = node('section', { class: 'defence-collateral', 'aria-label': 'Concepts' }, node('h3', {}, 'Which concepts pay'), this.words, this.list);
  }

  show() {
    const { set, result } = this.screen;
    const concepts = collateral(result.mask, set.mainConcept, set.conceptSizes);
    const erased = concepts.filter(({ share }) => share >= NEARLY).length;
    const even = result.removed / set.count;
    this.words.textContent = concepts.length ? `${count(erased)} of ${count(concepts.length)} concepts lose at least ${percent(NEARLY)} of their pairs; spread evenly each would lose ${percent(even)}. The ${Math.min(MOST, concepts.length)} that lose most:`
      : 'No concept is known of these pairs.';
    this.list.replaceChildren(...concepts.slice(0, MOST).map(({ concept, size, lost, share }) => node('li', {},
      node('span', { class: 'collateral-name' }, set.concepts[concept]),
      node('span', { class: 'collateral-bar', 'aria-hidden': 'true' }, node('span', { style: `width:${(100 * share).toFixed(1)}%` })),
      node('span', { class: 'figure' }, `${percent(share)}: ${count(lost)} of ${count(size)}`))));
  }
}
