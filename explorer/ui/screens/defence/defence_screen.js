// The Defence screen: which training pairs a filter would remove, what that costs, and whether it helps. Everything but the
// exact answer for combined filters and the files is worked out here, so that it follows the slider.

import { readChoices, studyShown, writeChoices } from './address.js';
import { fetchPayload, node, notFound, showProblem, whenVisible } from './charts.js';
import { DefenceCharts } from './defence_charts.js';
import { DefenceCollateral } from './defence_collateral.js';
import { DefenceControls } from './defence_controls.js';
import { loadArm } from './defence_data.js';
import { DefenceExport } from './defence_export.js';
import { DefenceGallery } from './defence_gallery.js';
import { DefenceHalves } from './defence_halves.js';
import { cellsOf, cutAt, cutRank, grade, keptMean, removedBy, rowsWhere, tally, tiedAtCut } from './defence_maths.js';
import { DefenceNumbers } from './defence_numbers.js';
import { PairView } from './defence_pair.js';
import { Pictures } from './defence_pictures.js';
import { DefenceRecipes } from './defence_recipes.js';
import { recoveryTable } from './defence_recovery.js';
import { DefenceRetrained } from './defence_retrained.js';
import { DEFAULTS, FilterState } from './defence_state.js';
import { decodeRows, encodeRows } from './graph_selection.js';
import { poisonKind } from './poison.js';
import { restartable } from './restarting.js';
import { withTerms } from './terms.js';

const REST = 150; // milliseconds without a move, after which pictures and the address follow
const LEAD = 'A filter drops training pairs that look wrong. Move the slider: how much poison goes, how many good pairs go with it, and does what remains get easier to learn (its AD)?';

export async function mount({ element, props, signal: mounted }) {
  const root = element.querySelector('.viewer-root');
  await whenVisible(root);
  const start = restartable(root, 'The filters cannot be shown', mounted, async (signal, name) => {
    if (name) writeChoices('d', { ...DEFAULTS, arm: name }, DEFAULTS); // what was chosen is of other pairs
    const payload = await fetchPayload(props.value.url);
    const { arms } = payload;
    const asked = name ?? readChoices('d').arm;
    const arm = arms.find((known) => known.name === asked) ?? arms.at(-1);
    const set = await loadArm(arm);
    signal.throwIfAborted();
    performance.mark('defence-there'); // these two for whoever measures
    const screen = new DefenceScreen(root, payload, set, start, signal);
    await screen.start(asked && arm.name !== asked ? [asked] : []);
    performance.mark('defence-shown');
  });
  await start();
}

class DefenceScreen {
  constructor(root, payload, set, open, signal) {
    const words = { poisoned: 'poisoned', benign: 'no poison', unrecorded: 'poison not recorded' };
    const arms = payload.arms.map((arm) => ({ name: arm.name, words: words[poisonKind({ poisoned: arm.poisoned > 0, poison_recorded: arm.unrecorded === 0 })] }));
    Object.assign(this, { root, set, open, signal, arms, saved: payload.saved, retrained: payload.retrained, paperRecovery: payload.paper_recovery, graphsCommand: payload.graphs_command, last: payload.arms.at(-1).name });
    this.state = new FilterState(set);
  }

  async start(missing) {
    missing.push(...this.state.follow());
    await this.followLasso(missing);
    this.signal.throwIfAborted();
    this.evaluate();
    this.build(notFound(missing));
    this.redraw();
    this.rest(); // whole at once: pictures that came later would push what stands below them from under a click
    const row = this.state.view.pair ? this.set.rowByUid(this.state.view.pair) : -1;
    if (row >= 0) this.pair.open(row);
  }

  // A selection that Graphs sends along, as a list of pairs to remove.
  async followLasso(missing) {
    const { drawn } = readChoices('d');
    const { graphs } = this.set.arm;
    this.pictures = new Pictures(this.set, () => !this.state.view.truth);
    if (!drawn) return;
    const [stamp, code] = drawn.split('.');
    const data = graphs && stamp === graphs.stamp ? await this.pictures.graphs() : null;
    const rows = data && decodeRows(code ?? '', data.count);
    const own = rows ? Int32Array.from(rows, (row) => this.set.rowByUid(data.uids(row))).filter((row) => row >= 0).sort() : [];
    if (own.length) this.state.adopt(this.set.listed(own));
    else missing.push('a selection of other pairs');
  }

  build(missing) {
    this.controls = new DefenceControls(this);
    this.numbers = new DefenceNumbers(this);
    this.charts = new DefenceCharts(this);
    this.gallery = new DefenceGallery(this);
    this.pair = new PairView(this);
    this.collateral = new DefenceCollateral(this);
    this.recipes = new DefenceRecipes(this);
    this.halves = new DefenceHalves(this);
    this.exports = new DefenceExport(this);
    this.trained = new DefenceRetrained(this);
    this.problem = node('div', {});
    this.unlinked = node('p', { class: 'note', hidden: true }, 'This filter is too long for the address: keep it under a name, or save it as a file.');
    this.element = node('div', { class: 'defence measure-screen', onkeydown: (event) => this.key(event) },
      missing, node('p', { class: 'screen-note' }, withTerms(LEAD, ['AD'])), this.controls.element, this.numbers.element, this.problem, this.charts.element, this.gallery.stripSection, this.trained.element,
      this.gallery.element, node('div', { class: 'defence-columns' }, this.collateral.element, node('div', {}, this.recipes.element, this.halves.element, this.exports.element, this.unlinked)),
      recoveryTable(this.retrained, this.set.arm.name, this.paperRecovery), this.pair.element);
    this.root.replaceChildren(this.element);
  }

  // The order that the cut moves along: of a part without a score, the pairs that it removes.
  get ranking() {
    const { active } = this.state;
    if (active.score) return this.set.ranking(active.score, active.remove);
    const goes = removedBy(active, this.set);
    return { order: rowsWhere(goes, Boolean), unscored: rowsWhere(goes, (gone) => !gone) };
  }

  // Everything that follows from the filter.
  evaluate() {
    const { set, state, ranking } = this;
    const mask = removedBy(state.recipe, set);
    const sizes = tally(mask, set.kindOf);
    const removed = sizes.removed[0] + sizes.removed[1] + sizes.removed[2];
    const { active } = state;
    const rank = active.score ? cutRank(active.cut, ranking) : ranking.order.length;
    const alone = state.filter.parts.length === 1 && active.score;
    const exact = alone && ranking.structure && removed === rank;
    const cells = cellsOf(sizes);
    this.result = {
      mask, sizes, removed, rank, cells, grade: state.view.truth ? grade(cells) : null, tied: active.score ? tiedAtCut(rank, ranking) : 0,
      unscored: active.score ? ranking.unscored.filter((row) => !mask[row]).length : 0, spared: alone ? rank - removed : 0,
      alignment: this.alignment(mask, exact ? ranking.structure[rank] : NaN),
    };
    const { against } = state.filter;
    if (against) Object.assign(this.result, this.compared(mask, removedBy(against, set)));
  }

  alignment(mask, structure) {
    const { alpha } = this.set.header.alignment;
    const feature = keptMean(mask, this.set.feature);
    return { feature_ad: feature, structure_ad: structure, ad: alpha * feature + (1 - alpha) * structure };
  }

  compared(mask, against) {
    const found = { both: 0, 'only-a': 0, 'only-b': 0 };
    for (let row = 0; row < mask.length; row += 1) {
      if (mask[row] || against[row]) found[mask[row] ? (against[row] ? 'both' : 'only-a') : 'only-b'] += 1;
    }
    return { against, compared: found };
  }

  // A move of the slider: figures and marks at once, pictures and the address when it rests.
  move() {
    this.problem.replaceChildren();
    this.evaluate();
    this.controls.show();
    this.numbers.show();
    this.charts.move();
    this.gallery.showSizes();
    this.gallery.markStrip();
    this.collateral.show();
    this.trained.show();
    this.halves.show();
    this.settle(true);
  }

  redraw() {
    this.evaluate();
    this.controls.draw();
    this.charts.draw();
    this.gallery.showStrip();
    this.trained.shown = null;
    this.trained.drawMarks(this.controls.marks, this.ranking.order.length);
    this.move();
  }

  settle(pictures = false) {
    this.pending ||= pictures;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.rest(), REST);
  }

  rest() {
    clearTimeout(this.resting);
    if (this.signal.aborted) return; // the address may be of another arm already
    if (this.pending) {
      this.charts.describe();
      this.gallery.show();
      this.recipes.show();
      this.exports.show();
    }
    this.pending = false;
    this.state.write(this.set.arm.name === this.last ? '' : this.set.arm.name);
    this.unlinked.hidden = this.state.linked;
  }

  cutAtRank(rank, apart = false) {
    const { active } = this.state;
    const kind = Object.keys(active.cut)[0];
    this.state.edit({ cut: cutAt(Math.min(rank, this.ranking.order.length), kind, this.ranking) }, apart ? '' : 'cut');
    this.move();
  }

  // The cut that leaves nothing beyond a score.
  cutAtValue(threshold) { this.cutAtRank(cutRank({ threshold }, this.ranking)); }

  change(part) {
    this.state.edit(part);
    this.redraw();
  }

  changeFilter(part) {
    this.state.change(part);
    this.redraw();
  }

  step(way) {
    this.state[way]();
    this.redraw();
  }

  key(event) {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== 'z' || event.target.matches('input:not([type="range"], [type="checkbox"])')) return;
    event.preventDefault();
    this.step(event.shiftKey ? 'redo' : 'undo');
  }

  openPair(row) {
    this.state.view.pair = this.set.uids(row);
    this.pair.open(row);
    this.settle();
  }

  // What the library says of the filter; null, and told, where it cannot, or the slider has gone on meanwhile.
  async answer(title, again) {
    const { mask } = this.result;
    const { name, stamp } = this.set.arm;
    this.problem.replaceChildren();
    try {
      const answer = await fetchPayload(`/export/filter-answer.json?${new URLSearchParams({ arm: name, stamp, recipe: JSON.stringify(this.state.recipe) })}`);
      return mask === this.result.mask ? answer : null;
    } catch (error) {
      showProblem(this.problem, title, error, again);
      return null;
    }
  }

  // AD of what remains after filters along which it is not kept.
  async measure() {
    const title = 'AD of what remains was not measured';
    const answer = await this.answer(title, () => this.measure());
    if (!answer) return;
    if (answer.alignment.ad === null) { showProblem(this.problem, title, new Error(answer.alignment.structure_from), () => this.measure()); return; }
    this.result.alignment = answer.alignment;
    this.numbers.show();
    this.charts.move();
  }

  // The address of what goes, as a selection on Graphs, and how many of it are not drawn there; null where none is.
  async graphsLink() {
    const data = await this.pictures.graphs();
    const rows = [];
    for (let row = 0; row < data.count; row += 1) if (this.result.mask[this.set.rowByUid(data.uids(row))]) rows.push(row);
    const undrawn = this.result.removed - rows.length;
    return rows.length ? `?${new URLSearchParams({
      study: studyShown(), tab: 'graphs', 'g.set': data.set.name, 'g.rows': `${data.set.stamp}.${encodeRows(rows, data.count)}`, ...(undrawn > 0 && { 'g.undrawn': undrawn }),
    })}` : null;
  }
}
