// The plots of the Alignment difficulty screen.

import { drawPlot, escapeText, layout, node, number, theme } from './charts.js';
import { distribution, parts } from './alignment_maths.js';
import { KINDS, PAIR_KINDS, conceptTicks, poisonKind } from './poison.js';

export const SCORES = [
  ['feature_distance', 'D_img:txt', 'how far a caption is from its own picture'],
  ['structure_distance', 'D_s', 'how differently caption and picture see all other pairs'],
  ['sample_ad', 'AD(x,y)', 'both, weighted by alpha'],
  ['picture_scatter', 'picture scatter', 'how differently the pictures of near captions look'],
];

export function renderDistributions(Plotly, root, set, control, alpha, signal) {
  if (root.childElementCount === 0) root.replaceChildren(...SCORES.map(([score, label, words]) => scorePanel(score, label, words)));
  const colours = theme();
  SCORES.forEach(([score], at) => { root.children[at].hidden = !set.distributions[score]; }); // none is local without neighbours
  return Promise.all(SCORES.filter(([score]) => set.distributions[score]).flatMap(([score, label]) => {
    const stored = distribution(set, score, alpha);
    const reference = control?.distributions[score] ? distribution(control, score, alpha) : null;
    const panel = root.querySelector(`[data-score='${score}']`);
    panel.querySelector('.auc').textContent = stored.auc === null ? withoutAuc(set) : `AUC ${number(stored.auc)}`;
    return [
      drawPlot(Plotly, panel.querySelector('.histogram'), histogramTraces(groups(stored, colours), stored, reference, colours),
        layout(colours, { barmode: 'overlay', yaxis: { title: 'density', rangemode: 'tozero' }, margin: margins(18) }), `${set.name}-${score}-histogram`, signal),
      drawPlot(Plotly, panel.querySelector('.cumulative'), cumulativeTraces(groups(stored, colours), stored, reference, set.shares, colours),
        layout(colours, { yaxis: { title: 'share ≤ x', range: [0, 1.02] }, xaxis: { title: label }, margin: margins(40) }), `${set.name}-${score}-cumulative`, signal),
    ];
  }));
}

const withoutAuc = (set) => ({ benign: 'no poison in this set', poisoned: 'no pair known to be benign', unrecorded: 'poison not recorded' }[poisonKind(set)]);

const margins = (bottom) => ({ l: 50, r: 10, t: 8, b: bottom });

function scorePanel(score, label, words) {
  return node('section', { class: 'score-panel', 'data-score': score, 'aria-label': `Distribution of ${label}` },
    node('header', {}, node('h4', {}, label), node('span', { class: 'auc figure' })),
    node('p', { class: 'note' }, words), node('div', { class: 'measure-chart histogram' }), node('div', { class: 'measure-chart cumulative' }));
}

function groups(stored, colours) {
  const kinds = KINDS.filter((kind) => stored.groups[kind]);
  const name = (kind) => (kinds.length === 1 && kind === 'unrecorded' ? 'all pairs' : PAIR_KINDS[kind].words);
  return kinds.map((kind) => ({ name: name(kind), colour: colours[kind], dash: PAIR_KINDS[kind].dash, ...stored.groups[kind] }));
}

function histogramTraces(found, stored, reference, colours) {
  const steps = (distributed, group, extra) => {
    const [low, high] = distributed.range;
    const width = (high - low) / group.density.length;
    return { type: 'scatter', mode: 'lines', x: [low, ...group.density.map((_, at) => low + (at + 0.5) * width), high],
      y: [0, ...group.density, 0], hovertemplate: '%{x:.3f}: density %{y:.2f}<extra>%{fullData.name}</extra>', ...extra };
  };
  const drawn = found.map((group) => steps(stored, group, {
    name: group.name, fill: 'tozeroy', fillcolor: `${group.colour}33`,
    line: { color: group.colour, width: 2, shape: 'hvh', dash: group.dash },
  }));
  if (reference) drawn.push(steps(reference, controls(reference), controlStyle(colours)));
  return drawn;
}

function cumulativeTraces(found, stored, reference, shares, colours) {
  // From the lowest to the highest value drawn: a distribution function does not end where its group does.
  const [low, high] = stored.range;
  const line = (group, extra) => ({ type: 'scatter', mode: 'lines',
    x: [Math.min(low, group.quantiles[0]), ...group.quantiles, Math.max(high, group.quantiles[group.quantiles.length - 1])], y: [0, ...shares, 1],
    hovertemplate: '%{y:.0%} are at or below %{x:.3f}<extra>%{fullData.name}</extra>', ...extra });
  const drawn = found.map((group) => line(group, {
    name: group.name, line: { color: group.colour, width: 2.5, dash: group.dash } }));
  if (reference) drawn.push(line(controls(reference), controlStyle(colours)));
  return drawn;
}

// The study may know that a set holds no poison though its pairs are not flagged one by one.
const controls = ({ groups }) => groups.benign ?? groups.unrecorded;

const controlStyle = (colours) => ({ name: 'benign control', line: { color: colours.subdued, width: 1.6, dash: 'dot' } });

const GROWTH_LINES = [['feature', 'feature AD', 'dash', 'square'], ['ad', 'AD', 'solid', 'circle'], ['structure', 'structure AD', 'dot', 'triangle-up']];

export function renderGrowth(Plotly, root, sets, alpha, signal) {
  const colours = theme();
  const measured = sets.map((set) => ({ set, parts: parts(set, alpha) }));
  const traces = GROWTH_LINES.map(([key, name, dash, symbol]) => ({
    type: 'scatter', mode: 'lines+markers', name,
    x: measured.map(({ set }) => set.poisoned_concept_count), y: measured.map((entry) => entry.parts[key].value),
    error_y: { type: 'data', array: measured.map((entry) => 1.96 * (entry.parts[key].error ?? 0)), color: colours.subdued, thickness: 1.2 },
    text: measured.map(({ set }) => escapeText(set.name)), hovertemplate: '%{text}: %{y:.4f}<extra>%{fullData.name}</extra>',
    line: { color: key === 'ad' ? colours.text : colours.subdued, width: key === 'ad' ? 3 : 2, dash },
    marker: { symbol, size: 10, color: measured.map(({ set }) => colours[poisonKind(set)]),
      line: { color: colours.surface, width: 1 } },
  }));
  const settings = growthLayout(colours);
  Object.assign(settings.xaxis, conceptTicks(sets.map((set) => set.poisoned_concept_count)));
  if (!sets.length) emptyChart(settings, 'C_P is not recorded of these sets:<br>none has a place on this axis.');
  return drawPlot(Plotly, root, traces, settings, 'ad-growth', signal);
}

// Words where axes without a point would stand.
function emptyChart(settings, words) {
  settings.xaxis.visible = settings.yaxis.visible = settings.showlegend = false;
  settings.annotations = [{ text: words, showarrow: false, xref: 'paper', yref: 'paper', x: 0.5, y: 0.5 }];
}

export function renderPaperGrowth(Plotly, root, paper, signal) {
  const colours = theme();
  const benign = paper.rows.filter((row) => row.poison === 'benign');
  const line = (poison, key, name, dash, symbol, colour) => {
    const rows = [...benign, ...paper.rows.filter((row) => row.poison === poison)];
    return { type: 'scatter', mode: 'lines+markers', name, x: rows.map((row) => row.poisoned_concept_count),
      y: rows.map((row) => row[key]), hovertemplate: 'C_P %{x}: %{y:.4f}<extra>%{fullData.name}</extra>',
      line: { color: colour, width: key === 'ad' ? 3 : 2, dash }, marker: { symbol, size: 9, color: colour } };
  };
  return drawPlot(Plotly, root, [
    line('dirty-label', 'feature_ad', 'feature AD, dirty-label', 'dash', 'square', colours.subdued),
    line('dirty-label', 'ad', 'AD, dirty-label', 'solid', 'circle', colours.text),
    line('clean-label', 'ad', 'AD, clean-label', 'longdashdot', 'diamond', colours.faint),
    line('dirty-label', 'structure_ad', 'structure AD, dirty-label', 'dot', 'triangle-up', colours.subdued),
  ], growthLayout(colours), 'paper-ad-growth', signal);
}

export function growthLayout(colours, title = 'C_P: poisoned concepts') {
  return layout(colours, {
    showlegend: true, legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0, font: { size: 12 } },
    margin: { l: 52, r: 14, t: 44, b: 44 }, xaxis: { title, rangemode: 'tozero' }, yaxis: { rangemode: 'tozero' },
  });
}
