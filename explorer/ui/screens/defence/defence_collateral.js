// Which concepts pay for a cut: the share that each loses, and those that it nearly erases.

import { count, node } from './charts.js';
import { percent } from './defence_charts.js';
import { BENIGN, collateral } from './defence_maths.js';

const MOST = 10;
const NEARLY = 0.9;

export class DefenceCollateral {
  constructor(screen) {
    this.screen = screen;
    this.words = node('p', { class: 'note' });
    this.list = node('ol', { class: 'collateral-list' });
    this.captions = node('div', { class: 'caption-groups' });
    this.asking = node('button', { type: 'button', class: 'plain-button', onclick: () => this.ask() }, 'Caption lengths and scripts');
    this.element = node('section', { class: 'defence-collateral', 'aria-label': 'Concepts' }, node('h3', {}, 'Which concepts pay'), this.words, this.list,
      node('p', {}, this.asking), this.captions);
  }

  // Only benign pairs are a loss, where it is known which they are.
  show() {
    const { set, result, state } = this.screen;
    const benign = state.view.truth && set.header.set.benign > 0;
    const concepts = collateral(result.mask, set, (kind) => !benign || kind === BENIGN);
    const lose = concepts.filter(({ lost }) => lost).slice(0, MOST);
    const erased = concepts.filter(({ share }) => share >= NEARLY).length;
    const even = benign ? result.grade.benign_lost : result.removed / set.count;
    const pairs = benign ? 'benign pairs' : 'pairs';
    this.words.textContent = concepts.length ? `${count(erased)} of ${count(concepts.length)} concepts lose at least ${percent(NEARLY)} of their ${pairs}; spread evenly each would lose ${percent(even, 1)}. ${lose.length ? 'Those that lose most:' : ''}`
      : 'No concept is known of these pairs.';
    this.list.replaceChildren(...lose.map(({ concept, size, lost, share }) => node('li', {},
      node('span', { class: 'collateral-name' }, set.concepts[concept]),
      node('span', { class: 'collateral-bar', 'aria-hidden': 'true' }, node('span', { style: `width:${(100 * share).toFixed(1)}%` })),
      node('span', { class: 'figure' }, `${percent(share)}: ${count(lost)} of ${count(size)}`))));
    this.captions.replaceChildren();
  }

  // Groups of captions that lose more or fewer pairs than chance allows, as the library finds them.
  async ask() {
    const answer = await this.screen.answer('The captions were not compared', () => this.ask());
    if (!answer) return;
    const { of, lengths, scripts } = answer.collateral;
    this.captions.replaceChildren(...[['lengths', lengths], ['scripts', scripts]].map(([name, { uneven, groups }]) => node('div', {},
      node('p', { class: 'note' }, uneven ? `Of ${of}, caption ${name} are hit unevenly:` : `Of ${of}, caption ${name} are hit about evenly.`),
      uneven ? node('ul', { class: 'collateral-list' }, groups.map(({ name: group, pairs, removed, lost_share: share }) => node('li', {},
        node('span', {}, group), node('span', { class: 'note' }, `95 % ${percent(share.low)} to ${percent(share.high)}`), node('span', { class: 'figure' }, `${percent(share.value)}: ${count(removed)} of ${count(pairs)}`)))) : null)));
  }
}
