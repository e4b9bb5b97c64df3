// The Alignment difficulty screen: AD of chosen sets at any alpha, distributions, growth, the mean offset.

import { joinNames, readChoices, splitNames, studyShown, writeChoices } from './address.js';
import { count, fetchPayload, loadPlotly, node, notFound, number, onThemeChange, saveTableButton, scrollable, whenVisible } from './charts.js';
import { renderDistributions, renderGrowth, renderPaperGrowth } from './alignment_charts.js';
import { parts, shareFit } from './alignment_maths.js';
import { LocalSection } from './local_alignment.js';
import { poisonedPairs, poisonKind, poisonWords } from './poison.js';
import { restartable } from './restarting.js';
import { withTerms } from './terms.js';

export async function mount({ element, props, watch, signal: mounted }) {
  const root = element.querySelector('.viewer-root');
  let screen = null;
  const measured = () => (props.value.study === studyShown() ? props.value.measured : null); // not of another study
  watch('value', () => screen?.addMeasured(measured()));
  await whenVisible(root);
  await restartable(root, 'Alignment difficulty cannot be shown', mounted, async (signal) => {
    const [Plotly, data] = await Promise.all([loadPlotly(), fetchPayload(props.value.url)]);
    signal.throwIfAborted();
    screen = new AlignmentScreen(Plotly, root, data, signal);
    screen.addMeasured(measured());
  })();
}

class AlignmentScreen {
  constructor(Plotly, root, data, signal) {
    Object.assign(this, { Plotly, root, paper: data.paper, sets: data.sets, top1: data.top1, signal, local: new LocalSection(Plotly, data.drawn, signal) });
    const first = this.sets[0];
    const last = this.sets[this.sets.length - 1];
    this.stops = first.alpha_stops;
    this.state = { alpha: nearest(this.stops, first.alignment_difficulty.alpha), chosen: new Set([first.name, last.name]), shown: last.name, control: true };
    this.defaults = this.choices();
    this.followLink();
    this.build();
    onThemeChange(() => this.drawCharts(), signal);
    this.draw();
  }

  choices() {
    const { alpha, chosen, shown } = this.state;
    return { alpha, sets: joinNames(this.sets.map((set) => set.name).filter((name) => chosen.has(name))), shown };
  }

  followLink() {
    const { alpha, sets, shown } = readChoices('a');
    const names = this.sets.map((set) => set.name);
    if (this.stops.includes(Number(alpha))) this.state.alpha = Number(alpha);
    const linked = sets === undefined ? [] : splitNames(sets);
    const found = linked.filter((name) => names.includes(name));
    if (found.length || sets === '') this.state.chosen = new Set(found); // none chosen is a choice, none found is not
    if (names.includes(shown)) this.state.shown = shown;
    this.missing = notFound([...new Set([...linked, shown])].filter((name) => !names.includes(name)));
  }

  // Sets the reader measured, each under a name of its own: it replaces what was measured under that name before.
  addMeasured(measured) {
    if (!measured?.length) return;
    const names = new Set(measured.map((set) => set.name));
    this.sets = [...this.sets.filter((set) => !names.has(set.name)), ...measured]
      .sort((first, second) => first.poisoned_concept_count - second.poisoned_concept_count || second.poison_recorded - first.poison_recorded);
    measured.forEach((set) => this.state.chosen.add(set.name));
    this.state.shown = measured[measured.length - 1].name;
    this.fillChoices();
    this.draw();
  }

  build() {
    const part = (className, tag = 'div') => node(tag, { class: className });
    this.parts = {
      choices: node('div', { class: 'set-choices', role: 'group', 'aria-label': 'Pair sets' }), facts: part('note', 'p'),
      cards: part('difficulty-cards'), table: part('difficulty-table'), distributions: part('score-panels'),
      growth: part('measure-chart'), growthNote: part('note', 'p'), paper: part('measure-chart'), offset: part('offset-table'), alpha: part('figure', 'output'),
      shown: node('select', { class: 'plain-select', id: 'distribution-set', onchange: (event) => this.change({ shown: event.target.value }) }),
    };
    const section = (title, ...children) => node('section', { class: 'measure-section' }, node('h3', {}, title), ...children);
    this.root.replaceChildren(node('div', { class: 'alignment-screen measure-screen' }, this.missing,
      node('p', { class: 'screen-note' }, withTerms('Alignment difficulty (AD) says how hard it is to learn from a set of pairs which picture goes with which caption: '
        + 'AD = α · feature AD + (1 − α) · structure AD. Poison raises it; how closely it follows the share of poison stands below.', ['feature AD', 'structure AD', 'AD'])),
      node('div', { class: 'alignment-controls' }, this.parts.choices, this.alphaSlider()),
      this.parts.facts, this.parts.cards, this.parts.table,
      section('Benign against poisoned pairs', this.distributionControls(), this.parts.distributions),
      section('Growth with the number of poisoned concepts', node('div', { class: 'two-charts' },
        node('figure', {}, node('figcaption', {}, 'These sets, measured (bars: 95 % intervals over the pairs of a set)'), this.parts.growth),
        node('figure', {}, node('figcaption', {}, `${this.paper.label}: Table 1, α = 0.8`), this.parts.paper)),
      node('p', { class: 'note' }, `${this.paper.source} Absolute values of AD must not be compared between data sets or extractors.`), this.parts.growthNote),
      section('Local AD: what near captions show', this.local.element),
      section('How much of structure AD is only the gap between the two modalities', this.parts.offset)));
    this.fillChoices();
  }

  fillChoices() {
    this.parts.choices.replaceChildren(...this.sets.map((set) => node('label', { class: 'set-choice' },
      node('input', { type: 'checkbox', checked: this.state.chosen.has(set.name), onchange: (event) => {
        const chosen = new Set(this.state.chosen);
        if (event.target.checked) chosen.add(set.name); else chosen.delete(set.name);
        this.change({ chosen, shown: event.target.checked ? set.name : this.state.shown });
      } }), node('span', { class: poisonKind(set) }, setLabel(set)))));
    this.parts.shown.replaceChildren(...this.sets.map((set) => node('option', { value: set.name }, setLabel(set))));
  }

  alphaSlider() {
    return node('label', { class: 'field alpha-field' }, 'α', node('input', {
      type: 'range', min: 0, max: this.stops.length - 1, step: 1, value: this.stops.indexOf(this.state.alpha), 'aria-label': 'alpha, the weight of feature AD',
      'aria-valuetext': String(this.state.alpha),
      oninput: (event) => {
        const alpha = this.stops[event.target.value];
        event.target.setAttribute('aria-valuetext', String(alpha));
        this.change({ alpha });
      },
    }), this.parts.alpha);
  }

  distributionControls() {
    return node('div', { class: 'alignment-controls' }, node('label', { class: 'field', for: 'distribution-set' }, 'Set'), this.parts.shown,
      node('label', { class: 'toggle' }, node('input', { type: 'checkbox', checked: true,
        onchange: (event) => this.change({ control: event.target.checked }) }), 'Benign control, dotted'),
      node('span', { class: 'note legend' }, node('span', { class: 'benign' }, '━ benign'), node('span', { class: 'poisoned' }, '━ poisoned'),
        'AUC: chance that a poisoned pair scores above a benign one (0.5 is a guess)'));
  }

  change(changes) {
    Object.assign(this.state, changes);
    writeChoices('a', this.choices(), this.defaults);
    this.draw();
  }

  draw() {
    const { alpha, chosen, shown } = this.state;
    const sets = this.sets.filter((set) => chosen.has(set.name));
    this.parts.alpha.textContent = alpha.toFixed(2);
    this.parts.shown.value = shown;
    this.parts.facts.replaceChildren(...facts(this.sets.find((set) => set.name === shown)));
    this.parts.cards.replaceChildren(...(sets.length ? sets.map((set) => card(set, alpha))
      : [node('p', { class: 'loading' }, 'Choose at least one set above.')]));
    this.parts.table.replaceChildren(...(sets.length ? [difficultyTable(sets, alpha)] : []));
    this.parts.offset.replaceChildren(...offsetTable(this.sets));
    return this.drawCharts();
  }

  drawCharts() {
    const { alpha, shown, control } = this.state;
    const set = this.sets.find((candidate) => candidate.name === shown);
    // Distances of another convention or extractor have another scale: they never share a plot.
    const comparable = this.sets.filter((candidate) => scale(candidate) === scale(set));
    const benign = comparable.find((candidate) => poisonKind(candidate) === 'benign' && candidate !== set);
    const placed = comparable.filter((candidate) => candidate.poisoned_concept_count !== null);
    this.parts.growthNote.textContent = growthWords(placed, this.paper, alpha);
    return Promise.all([
      renderDistributions(this.Plotly, this.parts.distributions, set, control ? benign : null, alpha, this.signal),
      renderGrowth(this.Plotly, this.parts.growth, placed, alpha, this.signal),
      this.local.draw(comparable, this.top1, alpha),
      renderPaperGrowth(this.Plotly, this.parts.paper, this.paper, this.signal),
    ]);
  }
}

const nearest = (stops, alpha) => stops.reduce((best, stop) => (Math.abs(stop - alpha) < Math.abs(best - alpha) ? stop : best));

const setLabel = (set) => `${set.name} (${poisonWords(set, 'C_P = 0')})`;

const scale = ({ extractor, alignment_difficulty: { convention, feature_range: range } }) => JSON.stringify([extractor, convention, range]);

const recorded = (value) => value ?? 'not recorded';

// Artefacts of earlier releases do not say it.
const clipped = ({ clipped_below: below, clipped_above: above }) => (below === undefined ? ''
  : `; ${(100 * below).toFixed(1)} % of the pairs lie below it and are tied at 1, ${(100 * above).toFixed(1)} % above and tied at 0`);

// What the two charts of growth show, and no more.
function growthWords(sets, paper, alpha) {
  const words = [];
  const flagged = sets.filter((set) => set.poison_recorded); // of others the share of poisoned pairs is not known
  const fit = shareFit(flagged, alpha);
  if (fit !== null) {
    words.push(`Over the ${flagged.length} sets whose share of poison is known a straight line in the share of poisoned pairs explains AD with R² = ${number(fit, 4)}. `
      + 'AD tracks that share here; in these sets it is not shown to predict anything beyond it.');
  }
  const ends = (values) => [values[0], values[values.length - 1]];
  const measured = ends(sets.map((set) => set.alignment_difficulty.structure_ad));
  const published = ends(paper.rows.filter((row) => row.poison !== 'clean-label').map((row) => row.structure_ad));
  const way = ([first, last]) => Math.sign(last - first);
  if (sets.length > 1 && way(measured) * way(published) < 0) {
    const told = (values) => `${way(values) > 0 ? 'rises' : 'falls'} (${values.map((value) => number(value)).join(' to ')})`;
    words.push(`Structure AD moves the other way than in the paper: with C_P it ${told(measured)} here, and ${told(published)} there.`);
  }
  return words.join(' ');
}

function facts(set) {
  const { convention, feature_range: range } = set.alignment_difficulty;
  const structure = convention === 'authors' ? '|D_img − D_txt| of cosine distances 1 − cos, not halved'
    : '|D_img − D_txt| of halved cosine distances (1 − cos) / 2';
  const feature = range === null ? 'D_img:txt is 0 for a right label and 1 for a wrong one'
    : `D_img:txt falls from 1 at cosine ${number(range[0])} to 0 at cosine ${number(range[1])}, calibrated once on benign pairs${clipped(set.alignment_difficulty)}`;
  return [node('strong', {}, `Convention “${convention}”: `), `${structure}. `, node('strong', {}, 'Feature range: '), `${feature}. `,
    node('strong', {}, 'Extractor: '), `${set.extractor}. Intervals: 95 %, over the pairs of a set.`];
}

function card(set, alpha) {
  const { ad, feature, structure } = parts(set, alpha);
  const [first, second] = [alpha * feature.value, (1 - alpha) * structure.value];
  const share = (value) => `width:${(100 * Math.min(value, 1)).toFixed(2)}%`;
  const line = (label, entry, weight) => node('div', { class: 'part' }, node('span', {}, label),
    node('span', { class: 'figure' }, `${number(entry.value, 4)} ${range(entry)}`), node('span', { class: 'note figure' }, `× ${weight.toFixed(2)}`));
  const kind = poisonKind(set);
  return node('article', { class: `difficulty-card ${kind}`, 'data-set': set.name },
    node('header', {}, node('strong', {}, set.name), node('span', { class: `tag ${kind}` }, poisonWords(set, 'benign control'))),
    node('p', { class: 'big-number figure' }, number(ad.value), node('span', { class: 'note figure' }, ` ${range(ad)}`)),
    node('div', { class: 'part-bar', role: 'img', 'aria-label': `feature part ${number(first)}, structure part ${number(second)}` },
      node('span', { class: 'feature', style: share(first) }), node('span', { class: 'structure', style: share(second) })),
    line('feature', feature, alpha), line('structure', structure, 1 - alpha),
    node('p', { class: 'note' }, `${count(set.pairs)} pairs, ${poisonedPairs(set)}; convention “${set.alignment_difficulty.convention}”`));
}

const range = ({ low, high }) => (low === null ? '' : `[${number(low, 4)}, ${number(high, 4)}]`);

function table(name, head, rows) {
  const made = node('table', { class: 'explorer-table' }, node('thead', {}, node('tr', {}, head.map((label, at) =>
    node('th', { scope: 'col', class: at ? 'number' : '' }, label)))),
  node('tbody', {}, rows.map(([label, ...cells]) => node('tr', {}, node('th', { scope: 'row' }, label),
    cells.map((cell) => node('td', { class: 'number' }, cell))))));
  return scrollable('saved-table', `Table ${name.replaceAll('-', ' ')}`, made, saveTableButton(name, made));
}

function difficultyTable(sets, alpha) {
  const plus = (entry) => (entry.error === null ? number(entry.value, 4) : `${number(entry.value, 4)} ± ${number(entry.error, 4)}`);
  const stop = sets[0].alpha_stops.indexOf(alpha);
  const rows = sets.map((set) => {
    const measured = parts(set, alpha);
    const auc = (stored) => (stored.auc === null ? '–' : number(stored.auc));
    const { feature_distance, structure_distance, sample_ad } = set.distributions;
    return [set.name, recorded(set.poisoned_concept_count), count(set.pairs), set.poison_recorded ? count(set.poisoned_pairs) : poisonedPairs(set).replace('poison not', 'not'), plus(measured.feature), plus(measured.structure),
      plus(measured.ad), auc(feature_distance), auc(structure_distance), auc(sample_ad[stop])];
  });
  return table('alignment-difficulty', ['Set (± standard error)', 'C_P', 'Pairs', 'Poisoned', 'Feature AD', 'Structure AD', `AD (α = ${alpha.toFixed(2)})`,
    'AUC D_img:txt', 'AUC D_s', 'AUC AD(x,y)'], rows);
}

function offsetTable(sets) {
  const rows = sets.map((set) => {
    const offset = set.mean_offset;
    const structure = set.alignment_difficulty.structure_ad; // 0 of a single pair
    return [set.name, number(structure, 4), number(offset.mean_absolute_offset, 4),
      structure > 0 ? `${Math.round(100 * offset.mean_absolute_offset / structure)} %` : '–', number(offset.centred_structure_ad, 4),
      number(offset.image_mean_norm), number(offset.text_mean_norm)];
  });
  return [node('p', { class: 'note' }, 'Captions and pictures lie in two cones with different mean vectors. The mean offset '
    + '|⟨x, mean x⟩ − ⟨y, mean y⟩| alone forces that much structure distance on every pair, poisoned or not; centred structure AD is what '
    + 'is left when both means are taken away.'),
  table('mean-offset', ['Set', 'Structure AD', 'Forced by the mean offset', 'Share', 'Centred structure AD', '|mean x| (pictures)', '|mean y| (captions)'], rows)];
}
