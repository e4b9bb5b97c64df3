// The curves: where the two kinds of pair lie along the score, what a cut takes of either, and what it does to AD.

import { count, node, number, onThemeChange, theme } from './charts.js';
import { SEPARATES } from './defence_data.js';
import { BENIGN, POISONED, valueAt } from './defence_maths.js';
import { Chart, lineKey, svg } from './defence_svg.js';
import { PAIR_KINDS } from './poison.js';
import { RadioGroup } from './radio_group.js';

const PAPER = { caught: 0.5, lost: 0.21 }; // CLIP alignment on the paper's sets, section 6
const STEPS = 240;
const DASHES = ['solid', 'dash', 'dot'];
// Bounds are null where all draws agree; files that were written before that was said have them alike.
export const reach = ({ low, high }, words) => (low === high ? 'no interval: all draws of the pairs agree' : `95 % ${words(low)} to ${words(high)}`);

export const percent = (share, digits = 0) => (share === null || Number.isNaN(share) ? '–' : `${(100 * share).toFixed(digits)} %`);
const CURVES = [['roc', 'Poison against benign', 'What a cut takes of the poison, against what it takes of the benign (ROC)'],
  ['pr', 'Precision and recall', 'How much of what goes is poison, against how much of the poison goes']];

export class DefenceCharts {
  // `cut(value)` is told a threshold while somebody drags.
  constructor(screen) {
    Object.assign(this, { screen, set: screen.set });
    const { signal } = screen;
    this.distribution = new Chart(() => this.describeDistribution(), (chart) => this.markCut(chart), signal);
    this.tradeOff = new Chart(() => this.describeTradeOff(), (chart) => this.markTradeOff(chart), signal);
    this.difficulty = new Chart(() => this.describeDifficulty(), (chart) => this.markDifficulty(chart), signal);
    this.makeDraggable();
    this.curves = new RadioGroup('Curve', CURVES, screen.state.view.curve, (value) => { screen.state.view.curve = value; this.tradeOff.draw(); this.describe(); screen.settle(); });
    this.words = { distribution: node('p', { class: 'note' }), tradeOff: node('p', { class: 'note' }), separates: node('p', { class: 'note separates' }) };
    this.list = node('ol', { class: 'bought' });
    onThemeChange(() => this.part.score && this.compare(), signal);
    this.legend = node('span', { class: 'defence-legend' });
    const figure = (title, chart, ...more) => node('figure', { class: 'defence-figure' }, node('figcaption', {}, title), chart.element, ...more);
    this.tradeOffFigure = figure(this.curves.element, this.tradeOff, this.words.tradeOff, this.words.separates);
    this.difficultyTitle = node('span', {});
    this.element = node('div', { class: 'defence-charts' },
      figure(['Drag the line', this.legend], this.distribution, this.words.distribution), this.tradeOffFigure,
      figure(this.difficultyTitle, this.difficulty, this.list));
  }

  get part() { return this.screen.state.active; }

  get truth() { return this.screen.state.view.truth; }

  // The part that is moved, where it goes by a score.
  get ranking() { return this.part.score ? this.set.ranking(this.part.score, this.part.remove) : null; }

  get curve() { return this.set.curve(this.part.score, this.part.remove); }

  // Other score, direction or knowledge of the truth: everything is drawn anew.
  draw() {
    this.element.hidden = !this.part.score;
    if (!this.part.score) return;
    this.tradeOffFigure.hidden = !this.truth;
    this.element.classList.toggle('two', !this.truth);
    this.curves.show(this.screen.state.view.curve);
    this.difficultyTitle.textContent = this.truth ? 'Which filter buys most AD for a benign pair?' : 'AD of what remains, by every score';
    [this.distribution, this.tradeOff, this.difficulty].forEach((chart) => chart.draw());
    this.describe();
  }

  move() {
    if (!this.part.score) return;
    [this.distribution, this.tradeOff, this.difficulty].forEach((chart) => chart.move());
    this.compare();
  }

  describe() {
    const { set, part } = this;
    if (!part.score) return;
    const score = set.scores.get(part.score);
    const ties = this.screen.result.tied;
    this.words.distribution.textContent = [part.remove === 'lowest' ? 'Everything left of the line goes.' : 'Everything right of the line goes.',
      ties ? `${count(ties)} pairs share the score at the cut; of these the first by their place in the set go.` : ''].filter(Boolean).join(' ');
    const name = this.screen.state.view.curve === 'roc' ? 'auc' : 'average_precision';
    const figure = score[name];
    const usual = score.remove === part.remove;
    this.words.tradeOff.textContent = figure && usual
      ? `${name === 'auc' ? 'AUC' : 'Average precision'} ${number(figure.value, 3)} (${reach(figure, (value) => number(value, 3))}). ${name === 'auc' ? 'The diamond: the paper’s point for CLIP alignment.' : ''}`
      : usual ? '' : 'In this direction the score is read the other way round; its AUC is of the usual direction.';
    const alone = set.separating.map(({ title }) => title);
    this.words.separates.textContent = alone.length ? `This poison is easy to tell: by ${alone.join(', ')} alone almost perfectly (AUC at least ${SEPARATES}). The paper’s sets are not so easy: there, `
      + `dropping ${percent(PAPER.caught)} of the poison by CLIP alignment costs ${percent(PAPER.lost)} of the benign.` : '';
    this.compare();
  }

  describeDistribution() {
    const { ranking, set } = this;
    const colours = theme();
    const [first, last] = [ranking.values[ranking.order[0]], ranking.values[ranking.order.at(-1)]];
    const [low, high] = first === last ? [first - 0.5, first + 0.5] : [Math.min(first, last), Math.max(first, last)];
    const line = (kinds, colour, dash, title) => ({ points: cumulative(ranking, set.kindOf, kinds, low, high), colour, dash, title, width: 2.5 });
    const lines = this.truth ? [line([BENIGN], colours.benign, 'solid', 'benign'), line([POISONED], colours.poisoned, 'dash', 'poisoned')] : [line(null, colours.text, 'solid', 'all pairs')];
    if (this.truth && set.header.set.unrecorded) lines.push(line([2], colours.unrecorded, 'dot', 'unrecorded'));
    this.legend.replaceChildren(...lines.map(({ title }) => node('span', { class: title }, PAIR_KINDS[title] ? `${PAIR_KINDS[title].mark} ${PAIR_KINDS[title].words}` : title)));
    return {
      label: `Share of pairs up to a score of ${set.scores.get(this.part.score).title}`, x: [low, high], y: [0, 1], xTitle: set.scores.get(this.part.score).title,
      yTitle: 'share of pairs up to here', xFormat: (value) => String(value), yFormat: (value) => percent(value), lines,
    };
  }

  markCut(chart) {
    const { rank } = this.screen.result;
    const { ranking } = this;
    const { top, bottom, left, right } = chart.span;
    const inside = ranking.order.length ? ranking.values[ranking.order[Math.min(rank, ranking.order.length - 1)]] : 0;
    const x = Math.min(right, Math.max(left, rank === ranking.order.length ? (this.part.remove === 'lowest' ? right : left) : chart.x(inside)));
    const [from, to] = this.part.remove === 'lowest' ? [left, x] : [x, right];
    return [svg('rect', { x: from, y: top, width: Math.max(0, to - from), height: bottom - top, class: 'gone' }),
      svg('line', { x1: x, x2: x, y1: top - 4, y2: bottom, class: 'cut' }),
      svg('path', { d: `M${x - 7} ${top - 6}h14l-7 10z`, class: 'cut-handle' })];
  }

  makeDraggable() {
    const { element } = this.distribution;
    element.classList.add('draggable');
    const drag = (event) => this.screen.cutAtValue(this.distribution.valueAt(event.clientX));
    element.addEventListener('pointerdown', (event) => {
      element.setPointerCapture(event.pointerId);
      this.screen.state.begin();
      drag(event);
    });
    element.addEventListener('pointermove', (event) => { if (element.hasPointerCapture(event.pointerId)) drag(event); });
  }

  describeTradeOff() {
    const colours = theme();
    const roc = this.screen.state.view.curve === 'roc';
    const shares = { x: [0, 1], y: [0, 1], xFormat: (value) => percent(value), yFormat: (value) => percent(value) };
    const line = { points: this.curve.map((point) => (roc ? [point.lost, point.caught] : [point.caught, point.precision])), colour: colours.text, width: 2.5 };
    if (!roc) return { ...shares, label: 'Precision against recall', xTitle: 'poison that goes (recall)', yTitle: 'of what goes, poison', lines: [line] };
    const chance = { points: [[0, 0], [1, 1]], colour: colours.faint, dash: 'dot', width: 1.5, title: 'dropping at random' };
    const paper = (chart) => [
      svg('path', { d: diamond(chart.x(PAPER.lost), chart.y(PAPER.caught), 7), fill: 'none', stroke: colours.text, 'stroke-width': 2 }),
      svg('text', { x: chart.x(PAPER.lost) + 12, y: chart.y(PAPER.caught) + 4 }, 'the paper: 50 % for 21 %')];
    return { ...shares, label: 'Poison removed against benign lost', xTitle: 'benign lost', yTitle: 'poison removed', lines: [chance, line], extra: paper };
  }

  markTradeOff(chart) {
    const { grade } = this.screen.result;
    if (!grade) return [];
    const [x, y] = this.screen.state.view.curve === 'roc' ? [grade.benign_lost, grade.poison_removed] : [grade.recall, grade.precision];
    return Number.isNaN(x) || Number.isNaN(y) ? [] : [svg('circle', { cx: chart.x(x), cy: chart.y(y), r: 7, class: 'here' })];
  }

  get difficultyX() { return this.truth ? 'lost' : 'removed'; }

  scoreCurves() {
    return this.set.header.scores.map((score, at) => ({ score, points: this.set.curve(score.name, score.remove), at }));
  }

  // The line of a score, the one at `at`: of two with the same colour the dashes differ.
  lookOf(score, at) {
    const colours = theme();
    if (score.name === this.part.score) return { colour: colours.text, dash: 'solid', width: 3 };
    const { length } = colours.concepts;
    return { colour: colours.concepts[at % length], dash: DASHES[(at + Math.floor(at / length)) % DASHES.length], width: 1.5 };
  }

  describeDifficulty() {
    const x = this.difficultyX;
    const curves = this.scoreCurves();
    const shown = curves.flatMap(({ points }) => points.filter((point) => Number.isFinite(point.ad) && point[x] <= 0.98).map(({ ad }) => ad));
    const lines = curves.map(({ score, points, at }) => ({
      points: points.filter((point) => point[x] <= 0.98).map((point) => [point[x], point.ad]), title: score.title, ...this.lookOf(score, at) }));
    const top = Math.max(...shown, 0.01);
    return { label: 'Alignment difficulty of what remains', x: [0, 1], y: [0, top * 1.05], xTitle: this.truth ? 'benign lost' : 'pairs removed', yTitle: 'AD of what remains',
      xFormat: (value) => percent(value), yFormat: (value) => number(value, 2), lines };
  }

  markDifficulty(chart) {
    const at = this.shareNow();
    const { top, bottom } = chart.span;
    if (Number.isNaN(at)) return [];
    const { ad } = this.screen.result.alignment;
    return [svg('line', { x1: chart.x(at), x2: chart.x(at), y1: top, y2: bottom, class: 'cut' }),
      ...(Number.isFinite(ad) ? [svg('circle', { cx: chart.x(at), cy: chart.y(ad), r: 6, class: 'here' })] : [])];
  }

  shareNow() {
    const { result } = this.screen;
    return this.truth ? result.grade.benign_lost : result.removed / this.set.count;
  }

  // Every score's AD at the same cost, the lowest first.
  compare() {
    const at = this.shareNow();
    const found = this.scoreCurves().map(({ score, points, at: place }) => [score, valueAt(points, this.difficultyX, 'ad', at), place])
      .filter(([, ad]) => Number.isFinite(ad)).sort(([, first], [, second]) => first - second);
    const cost = `${percent(at, 1)} of the ${this.truth ? 'benign' : 'pairs'}`;
    this.list.replaceChildren(node('li', { class: 'note' }, `AD of what remains if at most ${cost} go:`), ...found.map(([score, ad, place]) => node('li', { class: score.name === this.part.score ? 'own' : '' },
      lineKey(this.lookOf(score, place)), node('span', {}, score.title), node('span', { class: 'figure' }, number(ad, 3)))));
  }
}

const diamond = (x, y, size) => `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`;

// Share of pairs of these kinds (null: of all) whose score is at most x, at evenly spaced x.
function cumulative({ order, values, remove }, kindOf, kinds, low, high) {
  const rows = order.filter((row) => !kinds || kinds.includes(kindOf[row]));
  const sorted = Float32Array.from(rows, (row) => values[row]);
  if (remove === 'highest') sorted.reverse();
  const points = [];
  let at = 0;
  for (let step = 0; step <= STEPS; step += 1) {
    const x = low + ((high - low) * step) / STEPS;
    while (at < sorted.length && (sorted[at] <= x || step === STEPS)) at += 1;
    points.push([x, sorted.length ? at / sorted.length : NaN]);
  }
  return points;
}
