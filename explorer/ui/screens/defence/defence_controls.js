// What is set: the arm, the score and its direction, how much goes, and whether which pairs are poison is shown.

import { count, node, number, select } from './charts.js';
import { cutAt } from './defence_maths.js';
import { RadioGroup } from './radio_group.js';

const CUTS = [['rank', 'by number', 'So many pairs go'], ['budget', 'by share', 'At most this share of all pairs goes'], ['threshold', 'by score', 'Everything beyond this score goes']];
const WAYS = [['lowest', 'lowest', 'The lowest scores go first'], ['highest', 'highest', 'The highest scores go first']];
const button = (label, act, title) => node('button', { type: 'button', class: 'plain-button', onclick: act, title }, label);

export class DefenceControls {
  constructor(screen) {
    Object.assign(this, { screen, set: screen.set, state: screen.state });
    const { set, state } = this;
    const arms = select('Arm', screen.arms.map(({ name, words }) => [name, `${name} (${words})`]), set.arm.name, (name) => screen.open(name), { id: 'defence-arm' });
    this.score = select('Score', set.header.scores.map(({ name, title }) => [name, title]), '', (name) => this.choose(name), { id: 'defence-score' });
    this.way = new RadioGroup('Which end goes', WAYS, '', (remove) => screen.change({ remove }));
    this.truth = node('input', { type: 'checkbox', name: 'defence-truth', disabled: !set.recorded, onchange: (event) => { state.view.truth = event.target.checked; screen.redraw(); } });
    this.undo = button('Undo', () => screen.step('undo'), 'Undo the last change of the filter (Ctrl+Z)');
    this.redo = button('Redo', () => screen.step('redo'), 'Ctrl+Shift+Z');
    this.words = node('p', { class: 'note score-words' });
    this.slider = node('input', { type: 'range', min: 0, step: 1, class: 'defence-slider', 'aria-label': 'How many pairs go', onpointerdown: () => screen.state.begin(), oninput: (event) => screen.cutAtRank(Number(event.target.value)) });
    this.marks = node('div', { class: 'slider-marks' });
    this.kind = new RadioGroup('Cut', CUTS, 'rank', (kind) => this.chooseKind(kind));
    this.typed = node('input', { class: 'plain-input', type: 'number', step: 'any', 'aria-label': 'Cut', onchange: () => this.type() });
    this.unit = node('span', { class: 'note' });
    this.quota = node('input', { class: 'plain-input', type: 'number', min: 0, max: 100, step: 1, 'aria-label': 'At most so many per cent of a concept', placeholder: 'no limit', onchange: () => this.limit() });
    this.scored = node('div', { class: 'scored-controls' },
      node('div', { class: 'slider-place' }, this.slider, this.marks),
      node('div', { class: 'defence-bar' }, this.kind.element, this.typed, this.unit,
        node('label', { class: 'field', title: 'Of no concept more than this share of its pairs goes' }, 'of one concept at most', this.quota, '%')));
    this.element = node('section', { class: 'defence-controls', 'aria-label': 'Filter' },
      node('div', { class: 'defence-bar', role: 'toolbar', 'aria-label': 'What to filter by' }, arms, this.score, this.way.element,
        node('label', { class: 'toggle', title: set.recorded ? 'Only the figures use it; a filter never reads it' : 'Nobody recorded which pairs are poison' }, this.truth, 'show what is poison'),
        node('span', { class: 'spacer' }), this.undo, this.redo),
      this.words, this.scored);
  }

  // In place of the active part, which need not have been one by a score.
  choose(score) {
    const { remove } = this.set.scores.get(score);
    const { active, filter: { parts, active: at } } = this.state;
    const cut = active.cut && active.cut.threshold === undefined ? active.cut : { rank: this.screen.result.rank };
    const chosen = { ...(active.score && active), score, remove, cut };
    this.screen.changeFilter({ parts: parts.map((part, other) => (other === at ? chosen : part)) });
  }

  get ranking() { return this.set.ranking(this.state.active.score, this.state.active.remove); }

  get cutKind() { return Object.keys(this.state.active.cut)[0]; }

  chooseKind(kind) { this.screen.change({ cut: cutAt(this.screen.result.rank, kind, this.ranking) }); }

  // What is no number, or one of another form than the kind of cut has, is put right in sight.
  type() {
    const kind = this.cutKind;
    const value = Number(this.typed.value);
    if (this.typed.value === '' || !Number.isFinite(value)) { this.writeCut(); return; }
    const within = (low, high) => Math.min(high, Math.max(low, value));
    this.screen.change({ cut: kind === 'rank' ? { rank: Math.round(within(0, this.ranking.order.length)) } : kind === 'budget' ? { budget: within(0, 100) / 100 } : { threshold: value } });
    this.writeCut();
  }

  writeCut() {
    const kind = this.cutKind;
    const amount = this.state.active.cut[kind];
    this.typed.value = kind === 'rank' ? amount : kind === 'budget' ? number(100 * amount, 2) : Number(amount.toPrecision(6));
  }

  limit() {
    const { value } = this.quota;
    this.screen.change({ quota: value === '' ? undefined : Math.min(100, Math.max(0, Number(value))) / 100 });
    this.writeQuota();
  }

  writeQuota() {
    const { quota } = this.state.active;
    this.quota.value = quota === undefined || quota === null ? '' : 100 * quota;
  }

  // Other score or direction, or after a step back.
  draw() {
    const { active, view } = this.state;
    this.truth.checked = view.truth;
    this.scored.hidden = this.way.element.hidden = !active.score;
    if (!active.score) {
      this.words.textContent = `These ${count(this.screen.result.rank)} pairs ${'rows' in active ? 'were chosen by hand' : 'go by filters put together'}.`;
      this.score.value = '';
      return;
    }
    const score = this.set.scores.get(active.score);
    this.score.value = active.score;
    this.way.show(active.remove);
    this.words.replaceChildren(score.words, ` ${score.remove === 'lowest' ? 'Low' : 'High'} is suspicious. `, `Made from: ${score.provenance}.`);
    this.slider.max = this.ranking.order.length;
    this.show();
  }

  show() {
    const { active, past, future } = this.state;
    this.undo.disabled = !past.length;
    this.redo.disabled = !future.length;
    if (!active.score) return;
    const { rank } = this.screen.result;
    if (Number(this.slider.value) !== rank) this.slider.value = rank;
    this.slider.style.setProperty('--share', rank / (this.ranking.order.length || 1));
    this.slider.setAttribute('aria-valuetext', `${count(rank)} of ${count(this.set.count)} pairs go`);
    const kind = this.cutKind;
    this.kind.show(kind);
    if (document.activeElement !== this.typed || kind !== 'rank') this.writeCut();
    this.unit.textContent = { rank: `of ${count(this.set.count)} pairs`, budget: '% of all pairs at most', threshold: active.remove === 'lowest' ? 'and everything above stays' : 'and everything below stays' }[kind];
    if (document.activeElement !== this.quota) this.writeQuota();
  }
}
