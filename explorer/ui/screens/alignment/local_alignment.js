// Local AD on the Alignment difficulty screen: what near captions show, beside AD, the share of poison and the damage.

import { count, drawPlot, escapeText, layout, node, number, saveTableButton, scrollable, setAttributes, theme, withModels, withOrigin } from './charts.js';
import { correlation, parts } from './alignment_maths.js';
import { conceptTicks, poisonKind } from './poison.js';
import { withTerms } from './terms.js';

const LINES = [
  ['picture_scatter', 'picture scatter', 'solid', 'circle', 3],
  ['local_structure_ad', 'local structure AD', 'dot', 'triangle-up', 2],
  ['local_feature_ad', 'local feature AD', 'dash', 'square', 2],
];
const DAMAGE = 'top-1, nouns not targeted';

export class LocalSection {
  // `drawn`: how the pictures were drawn that were judged; null where none were. `signal` ends the screen.
  constructor(Plotly, drawn, signal) {
    Object.assign(this, { Plotly, signal });
    const origin = drawn && withOrigin({ drawn });
    this.charts = { concepts: chart(), share: chart(), damage: chart() };
    this.words = node('p', { class: 'note' });
    this.table = node('div', { class: 'local-table', ...origin });
    this.damage = figure('What the models draw (bars: 95 % intervals over nouns)', this.charts.damage, origin);
    this.figures = node('div', { class: 'three-charts' },
      figure('By poisoned concepts (bars: 95 % intervals over groups of near captions)', this.charts.concepts),
      figure('By the share of poison, with AD', this.charts.share), this.damage);
    this.element = node('div', { class: 'local-section' },
      node('p', { class: 'note' }, withTerms('A model draws for a caption about the average of what the captions near it show. How undefined that average is '
        + 'says the picture scatter and, where captions are far apart, the local structure AD; how wrong it is says the local feature AD. Local AD weighs '
        + 'the last two as AD weighs its parts. These measures are ours, not the paper’s.', ['picture scatter', 'local structure AD', 'local feature AD'])),
      this.figures, this.words, this.table);
  }

  // `top1`: set name -> top-1 with its interval, of the model trained on that set; null where nothing was drawn.
  draw(sets, top1, alpha) {
    const measured = sets.filter((set) => set.local);
    this.figures.hidden = !measured.length;
    if (!measured.length) {
      this.words.textContent = 'No local AD is stored of these sets: the step scores of this version measures it.';
      this.table.replaceChildren();
      return Promise.resolve();
    }
    const points = measured.map((set) => point(set, top1?.[set.name] ?? null, alpha));
    this.words.textContent = trackingWords(points);
    this.table.replaceChildren(localTable(points));
    const judged = points.filter((entry) => entry.top1);
    setAttributes(this.damage, withModels(judged.map(({ set }) => set)));
    const colours = theme();
    return Promise.all([
      drawPlot(this.Plotly, this.charts.concepts, lines(points.filter(({ set }) => set.poisoned_concept_count !== null),
        ({ set }) => set.poisoned_concept_count, colours), axes(colours, 'C_P: poisoned concepts', '',
        conceptTicks(points.map(({ set }) => set.poisoned_concept_count ?? 0))), 'local-ad-concepts', this.signal),
      drawPlot(this.Plotly, this.charts.share, [...lines(flagged(points), ({ share }) => share, colours), againstShare(flagged(points), colours)],
        axes(colours, 'share of poisoned pairs', ''), 'local-ad-share', this.signal),
      drawPlot(this.Plotly, this.charts.damage, damageLines(judged, colours),
        axes(colours, 'AD, share, scatter', DAMAGE), 'local-ad-damage', this.signal),
    ]);
  }
}

const chart = () => node('div', { class: 'measure-chart' });

const figure = (caption, element, origin = null) => node('figure', { ...origin }, node('figcaption', {}, caption), element);

const flagged = (points) => points.filter(({ share }) => share !== null);

function point(set, top1, alpha) {
  const { local } = set;
  return { set, top1: overNouns(top1), local, ad: parts(set, alpha).ad.value,
    localAd: alpha * local.local_feature_ad + (1 - alpha) * local.local_structure_ad, share: set.poison_recorded ? set.poisoned_pairs / set.pairs : null };
}

// Evaluations of earlier releases have the interval over the seeds of the noise alone, which says nothing of other nouns.
function overNouns(top1) {
  const { low, high } = top1?.over_concepts ?? { low: null };
  return top1 && { mean: top1.mean, bounds: low === null ? null : [low, high] };
}

// What has no interval gets no bar; 0 would be one without a length.
const bars = (values, bounds, colours) => ({ type: 'data', color: colours.subdued, thickness: 1.2,
  array: bounds.map((found, at) => (found ? found[1] - values[at] : NaN)), arrayminus: bounds.map((found, at) => (found ? values[at] - found[0] : NaN)) });

function lines(points, place, colours) {
  const sorted = [...points].sort((first, second) => place(first) - place(second));
  return LINES.map(([key, name, dash, symbol, width]) => {
    const values = sorted.map(({ local }) => local[key]);
    return {
      type: 'scatter', mode: 'lines+markers', cliponaxis: false, name, x: sorted.map(place), y: values,
      error_y: bars(values, sorted.map(({ local }) => local[`${key}_interval`] ?? null), colours),
      text: sorted.map(({ set }) => escapeText(set.name)), hovertemplate: '%{text}: %{y:.4f}<extra>%{fullData.name}</extra>',
      line: { color: width > 2 ? colours.text : colours.subdued, width, dash },
      marker: { symbol, size: 9, color: sorted.map(({ set }) => colours[poisonKind(set)]), line: { color: colours.surface, width: 1 } },
    };
  });
}

function againstShare(points, colours) {
  return { type: 'scatter', mode: 'markers', cliponaxis: false, name: 'AD', x: points.map(({ share }) => share), y: points.map(({ ad }) => ad),
    text: points.map(({ set }) => escapeText(set.name)), hovertemplate: '%{text}: %{y:.4f}<extra>AD</extra>',
    marker: { symbol: 'x', size: 9, color: colours.faint } };
}

const PREDICTORS = [
  ['AD', ({ ad }) => ad, 'x', 'dash'],
  ['share of poison', ({ share }) => share, 'square-open', 'dot'],
  ['picture scatter', ({ local }) => local.picture_scatter, 'circle', 'solid'],
  ['local structure AD', ({ local }) => local.local_structure_ad, 'triangle-up', null],
  ['local feature AD', ({ local }) => local.local_feature_ad, 'square', null],
  ['local AD', ({ localAd }) => localAd, 'diamond', null],
];

function damageLines(points, colours) {
  return PREDICTORS.filter(([, , , dash]) => dash).map(([name, of, symbol, dash]) => {
    const sorted = points.filter((entry) => of(entry) !== null).sort((first, second) => of(first) - of(second));
    const means = sorted.map(({ top1 }) => top1.mean);
    return {
      type: 'scatter', mode: 'lines+markers', cliponaxis: false, name, x: sorted.map(of), y: means,
      error_y: dash === 'solid' ? bars(means, sorted.map(({ top1 }) => top1.bounds), colours) : undefined,
      text: sorted.map(({ set }) => escapeText(set.name)), hovertemplate: '%{text}: top-1 %{y:.3f} at %{x:.3f}<extra>%{fullData.name}</extra>',
      line: { color: dash === 'solid' ? colours.text : colours.subdued, width: dash === 'solid' ? 3 : 2, dash }, marker: { symbol, size: 9 },
    };
  });
}

function axes(colours, x, y, ticks = {}) {
  return layout(colours, {
    showlegend: true, legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0, font: { size: 12 } },
    margin: { l: 52, r: 14, t: 44, b: 44 }, xaxis: { title: x, rangemode: 'tozero', ...ticks }, yaxis: { title: y, rangemode: 'tozero' },
  });
}

// The same models for every quantity, so that their correlations compare.
function trackingWords(points) {
  const models = points.filter(({ top1, share }) => top1 && share !== null);
  const found = PREDICTORS.map(([name, of]) => [name, correlation(models.map(of), models.map(({ top1 }) => top1.mean))]).filter(([, r]) => r !== null);
  if (!found.length) return 'How these go along with what models draw is told where at least three of them were drawn with and judged.';
  const shares = new Set(models.map(({ share }) => number(share, 2)));
  const apart = shares.size === models.length
    ? 'No two of these sets have the same share of poison, so that nothing here tells which of the quantities the damage follows.'
    : 'Sets of one share of poison are among them: what parts these is not the share.';
  return `Pearson’s r with ${DAMAGE}, over n = ${models.length} models: ${found.map(([name, r]) => `${name} ${number(r)}`).join(', ')}. ${apart}`;
}

function localTable(points) {
  const within = (local, key) => {
    const bounds = local[`${key}_interval`];
    return bounds ? `${number(local[key])} [${number(bounds[0])}, ${number(bounds[1])}]` : number(local[key]);
  };
  const head = ['Set [95 % interval]', 'Share of poison', 'AD', 'Local AD', 'Local feature AD', 'Local structure AD', 'Picture scatter', 'Caption spread', 'k', 'Pairs', DAMAGE];
  const rows = points.map(({ set, top1, local, ad, localAd, share }) => [set.name, share === null ? 'not recorded' : number(share), number(ad), number(localAd),
    within(local, 'local_feature_ad'), within(local, 'local_structure_ad'), within(local, 'picture_scatter'), number(local.caption_spread), String(local.neighbours), count(local.local_pairs), top1 ? number(top1.mean) : 'not drawn']);
  const made = node('table', { class: 'explorer-table' },
    node('thead', {}, node('tr', {}, head.map((label, at) => node('th', { scope: 'col', class: at ? 'number' : '' }, label)))),
    node('tbody', {}, rows.map(([label, ...cells]) => node('tr', {}, node('th', { scope: 'row' }, label), cells.map((cell) => node('td', { class: 'number' }, cell))))));
  return scrollable('saved-table', 'Local alignment difficulty of every set', made, saveTableButton('local-alignment-difficulty', made));
}
