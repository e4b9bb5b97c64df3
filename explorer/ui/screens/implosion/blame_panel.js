// Which training pairs are blamed for a picture that came out wrong, as the study has stored it: each score's most blamed
// pairs, and what the score is proven to predict.

import { studyShown } from './address.js';
import { count, fetchPayload, node, number, showProblem } from './charts.js';
import { Pictures } from './defence_pictures.js';
import { showDialog } from './dialogs.js';
import { PAIR_KINDS } from './poison.js';

const SIDE = 64;
const TITLES = { co_mention: 'Co-mention', neighbourhood: 'Neighbourhood', gradient: 'Gradient' };
const LIST = { gradient: 'by gradients', neighbourhood: 'by the neighbourhood', co_mention: 'by co-mention', random: 'a random draw' };

export class BlamePanel {
  // `onClose` is called when it has been closed, by whatever way; `signal` ends the screen.
  constructor(onClose, signal) {
    this.signal = signal;
    this.title = node('h3', {});
    this.content = node('div', { class: 'blame-content' });
    const close = node('button', { type: 'button', class: 'plain-button', onclick: () => this.element.close() }, 'Close');
    this.element = node('dialog', { class: 'blame-panel', 'aria-label': 'Blamed training pairs', onclose: onClose,
      onkeydown: (event) => event.stopPropagation(), // the strip behind it would walk
      onclick: (event) => { if (event.target === this.element) this.element.close(); } },
    node('div', { class: 'blame-head' }, this.title, close), this.content);
  }

  async open(arm, concept) {
    const asked = this.asked = `${arm} ${concept}`;
    this.title.textContent = `Blamed for ${concept}, as ${arm} draws it`;
    this.content.replaceChildren(node('p', { class: 'note' }, 'Loading…'));
    showDialog(this.element, this.signal);
    try {
      const found = await fetchPayload(`/export/blame.json?${new URLSearchParams({ arm, concept })}`);
      if (this.asked === asked) this.show(found);
    } catch (error) {
      if (this.asked === asked) showProblem(this.content, 'Blame cannot be shown', error, () => this.open(arm, concept));
    }
  }

  show(found) {
    const pairs = found.scores.flatMap((score) => score.pairs);
    const pictures = new Pictures(asSet(found, pairs), () => false);
    let row = 0;
    this.content.replaceChildren(
      node('p', {}, `${count(found.mentioned_in)} captions of this arm mention ${found.concept}. Blame is a suspicion, not a proof: beside each score stands whether models trained again without the pairs it blames bear it out.`),
      ...(found.changed ? [node('p', { class: 'notice error', role: 'alert' }, found.changed)] : []),
      pictures.notice,
      ...found.scores.map((score) => scoreSection(score, found, (pair) => card(pair, pictures.square(row++, SIDE), found.arm))),
      ...(found.graded ? [gradedTable(found.graded)] : []));
  }
}

// What `Pictures` asks of a set, of pairs that are listed one after another.
function asSet({ arm, pictures_url: url, no_pictures: none, data_hash: hash, graphs }, pairs) {
  return {
    arm: { name: arm, pictures_url: url, no_pictures: none, graphs }, header: { set: { data_hash: hash } },
    kind: (row) => kindOf(pairs[row]), tableRow: pairs.map((pair) => pair.row), uids: (row) => pairs[row].uid,
  };
}

const kindOf = ({ is_poison: poison }) => (poison === null ? 'unrecorded' : poison ? 'poisoned' : 'benign');

function scoreSection({ name, words, proven, measured, poison_auc: auc, pairs }, { models }, draw) {
  const of = `Of ${count(measured)} pairs${name === 'gradient' ? `, gradients at ${models.join(' and ')}` : ''}`;
  const told = auc === null ? 'which of them are poison is not recorded' : `AUC for poison ${number(auc, 2)}, where .5 is chance`;
  return node('section', { class: 'blame-score' }, node('h4', {}, TITLES[name] ?? name),
    node('p', {}, words), node('p', { class: 'proven' }, `${proven[0].toUpperCase()}${proven.slice(1)}.`), node('p', { class: 'note' }, `${of}; ${told}.`),
    node('ul', { class: 'blame-pairs', 'aria-label': `Most blamed by ${TITLES[name] ?? name}` }, pairs.map((pair) => node('li', {}, draw(pair)))));
}

// Opens the pair with its scores and neighbours on the screen Defence.
function card(pair, square, arm) {
  const kind = kindOf(pair);
  const words = { poisoned: 'poison', benign: 'benign', unrecorded: 'not recorded' }[kind];
  const query = new URLSearchParams({ study: studyShown(), tab: 'defence', 'd.arm': arm, 'd.pair': pair.uid });
  return node('a', { class: 'blame-pair', href: `?${query}`, title: `${pair.caption} (${pair.uid})`, 'aria-label': `${pair.caption}; ${words}; score ${number(pair.score, 3)}` },
    square, node('span', { class: 'pair-caption' }, pair.caption), node('span', { class: `kind ${kind}` }, `${PAIR_KINDS[kind].mark} ${words}`));
}

function gradedTable({ concepts, candidates, left_out: left, lists }) {
  const share = (value) => (value ? `${number(value.mean, 2)}${value.low === null ? '' : ` (${number(value.low, 2)} to ${number(value.high, 2)})`}` : 'not trained');
  const line = ({ name, poison, top1, less_random: less }) => node('tr', {}, node('th', { scope: 'row' }, LIST[name] ?? name),
    node('td', { class: 'figure' }, poison === null ? 'not recorded' : count(poison)), node('td', { class: 'figure' }, share(top1?.broken)),
    node('td', { class: 'figure' }, name === 'random' ? '' : share(less?.broken)), node('td', { class: 'figure' }, name === 'random' ? '' : share(less?.others)));
  const head = ['Left out', 'Poison in it', 'Top-1 of the broken', 'Less the random draw’s', 'Others, less the random draw’s'];
  return node('section', { class: 'blame-score' }, node('h4', {}, 'Graded by training again'),
    node('p', { class: 'note' }, `Models trained without ${count(left)} of ${count(candidates)} pairs, for ${concepts.length} broken concepts; 95 % t-intervals over concepts, each model trained once.`),
    node('div', { class: 'scroll' }, node('table', { class: 'inspector-scores' }, node('thead', {}, node('tr', {}, head.map((words) => node('th', { scope: 'col' }, words)))), node('tbody', {}, lists.map(line)))));
}
