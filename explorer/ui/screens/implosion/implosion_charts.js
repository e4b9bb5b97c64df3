// Four linked charts: AD, accuracy with utility, and word sensitivity against C_P; utility against AD with its fit.

import { drawPlot, escapeText, layout, loadPlotly, node, number, onThemeChange, theme, withModels, withOrigin } from './charts.js';
import { labelPlaces } from './implosion_labels.js';
import { meterOrigin, meterWords } from './implosion_meter.js';
import { boundsOf } from './implosion_tables.js';
import { PAIR_KINDS, conceptTicks, cpLabel } from './poison.js';

const HEIGHT = 300;
const TOP = 1.05; // of the axis of utility
const pictures = ({ drawn }) => ({ drawn });
const MARGIN = { l: 54, r: 14, t: 46, b: 44 };

// `of` names what a chart is drawn from; what is not measured is told among the tables. `origin` goes with it when it is
// saved; AD is of pairs, and no picture is drawn for it.
const CHARTS = [
  { title: 'AD of the training data', note: () => 'Bars: 95 % intervals over the pairs of each set.', of: 'evaluation', make: difficultyChart },
  { title: 'What the models draw', note: () => 'Bars: 95 % intervals over nouns (over the seeds of the noise where an evaluation of an earlier release has those alone), one training run each.', of: 'evaluation', origin: pictures, make: performanceChart },
  { title: 'How much they still listen', note: (meter) => `Change of the prediction beside that of ${meter.reference}. Bars: 95 % intervals over nouns. ${meterWords(meter)}`, of: 'meter', origin: meterOrigin, make: listeningChart },
  { title: 'Utility against AD', note: () => 'The interval of r is over these models. Hollow: the same models at the share of poison in their pairs. AD tracks that share, so the line does not tell which of the two the damage follows.', of: 'evaluation', origin: pictures, make: fitChart },
];

// `measured` holds `evaluation` and `meter`.
export async function drawCharts(root, measured, count, signal) {
  const Plotly = await loadPlotly();
  signal.throwIfAborted();
  const charts = new Charts(Plotly, measured, count, signal);
  root.replaceChildren(...charts.figures);
  charts.draw();
  onThemeChange(() => charts.draw(), signal);
  return charts;
}

class Charts {
  constructor(Plotly, measured, count, signal) {
    Object.assign(this, { Plotly, measured, count, signal });
    const there = ({ of }) => !measured[of].problem && (of !== 'meter' || measured.meter.reference); // shares are of a reference's
    this.plots = CHARTS.filter(there).map((chart) => ({ ...chart, element: node('div', { class: 'plot' }) }));
    this.figures = this.plots.map(({ title, note, of, origin, element }) => node('figure', { class: 'chart', ...withModels(measured[of].models), ...origin && withOrigin(origin(measured[of])) },
      node('figcaption', {}, title, node('span', { class: 'chart-note' }, note(measured[of]))), element));
  }

  mark(count) {
    this.count = count;
    this.draw();
  }

  resize() { this.plots.forEach(({ element }) => this.Plotly.Plots.resize(element)); }

  draw() {
    const colours = theme();
    this.plots.forEach(({ element, of, make }) => {
      const { traces, changes } = make(this.measured[of], colours, this.count, element.clientWidth);
      drawPlot(this.Plotly, element, traces, layout(colours, { height: HEIGHT, showlegend: make !== fitChart, legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0 }, margin: { l: 54, r: 14, t: 34, b: 44 }, ...changes }), `implosion-${CHARTS.findIndex((chart) => chart.make === make) + 1}`, this.signal);
    });
  }
}

// A model whose C_P nobody recorded has no place on its axis.
const placed = (models) => models.filter((model) => model.poisoned_concept_count !== null);

const conceptAxis = ({ models }) => (
  { title: 'poisoned concepts C_P', ...conceptTicks(placed(models).map((model) => model.poisoned_concept_count)) });

const marker = (count, colours) => (count === null ? {} : {
  shapes: [{ type: 'line', x0: count, x1: count, yref: 'paper', y0: 0, y1: 1, line: { color: colours.text, width: 1, dash: 'dot' } }],
});

// `kind` is of the nouns that a line is over: its mark tells them apart without colour.
function line(name, x, y, error, color, dash = 'solid', kind = 'benign') {
  return {
    name, x, y, mode: 'lines+markers', line: { color, width: 2.5, dash }, marker: { size: 8, color, symbol: PAIR_KINDS[kind].symbol },
    error_y: { type: 'data', array: error.map(([, high]) => high), arrayminus: error.map(([low]) => low), color, thickness: 1.2, width: 4 },
  };
}

const kindOf = (group) => (group === 'poisoned' ? 'poisoned' : 'benign');

function difficultyChart(evaluation, colours, count) {
  const models = placed(evaluation.models).filter((model) => model.ad !== null && model.ad !== undefined);
  const x = models.map((model) => model.poisoned_concept_count);
  const series = [['AD', 'ad', colours.text, 'solid'], ['feature AD', 'feature_ad', colours.subdued, 'dash'], ['structure AD', 'structure_ad', colours.subdued, 'dot']];
  const traces = series.map(([name, key, color, dash]) => line(name, x, models.map((model) => model[key]),
    models.map((model) => { const e = 1.96 * (model[`${key}_standard_error`] ?? 0); return [e, e]; }), color, dash));
  return { traces, changes: { xaxis: conceptAxis(evaluation), yaxis: { title: 'Alignment Difficulty', rangemode: 'tozero' }, ...marker(count, colours) } };
}

function performanceChart(evaluation, colours, count) {
  const series = [
    ['accuracy, not targeted', 'accuracy', 'unpoisoned', colours.benign, 'solid'],
    ['accuracy, poisoned', 'accuracy', 'poisoned', colours.poisoned, 'solid'],
    ['utility, not targeted', 'utility', 'unpoisoned', colours.benign, 'dot'],
  ];
  const traces = series.map(([name, quantity, group, color, dash]) => {
    const models = placed(evaluation.models).filter((model) => model[quantity][group]);
    const values = models.map((model) => ({ mean: model[quantity][group].mean, ...boundsOf(model[quantity][group]) }));
    return line(name, models.map((model) => model.poisoned_concept_count), values.map((value) => value.mean),
      values.map(({ mean, low, high }) => [mean - (low ?? mean), (high ?? mean) - mean]), color, dash, kindOf(group));
  });
  return { traces, changes: { xaxis: conceptAxis(evaluation), yaxis: { title: 'share of pictures', range: [0, 1] }, ...marker(count, colours) } };
}

function listeningChart(meter, colours, count) {
  const series = [
    ['the noun, not targeted', 'sensitivity', 'unpoisoned', colours.benign, 'solid'],
    ['the noun, poisoned', 'sensitivity', 'poisoned', colours.poisoned, 'solid'],
    ['whole prompt, not targeted', 'guidance', 'unpoisoned', colours.benign, 'dot'],
  ];
  const traces = series.map(([name, measure, group, color, dash]) => {
    const models = placed(meter.models).filter((model) => model.measures[measure]?.groups[group]?.relative);
    const values = models.map((model) => model.measures[measure].groups[group].relative);
    return line(name, models.map((model) => model.poisoned_concept_count), values.map(({ value }) => value),
      values.map(({ value, low, high }) => [value - (low ?? value), (high ?? value) - value]), color, dash, kindOf(group));
  });
  return { traces, changes: { xaxis: conceptAxis(meter), yaxis: { title: `share of ${escapeText(meter.reference)}’s`, rangemode: 'tozero' }, ...marker(count, colours) } };
}

function fitChart(evaluation, colours, count, width) {
  const models = evaluation.models.filter((model) => model.ad !== null && model.ad !== undefined && model.utility.unpoisoned);
  const x = models.map((model) => model.ad);
  const colour = models.map((model) => colours[cpLabel(model, models).kind]);
  const size = models.map((model) => (model.poisoned_concept_count === count ? 17 : 11));
  const pointText = (model) => {
    const { words, name } = cpLabel(model, models);
    return name ? `${words} (${name})` : words;
  };
  const traces = [];
  const { fit } = evaluation;
  if (fit) {
    const ends = [Math.min(...x), Math.max(...x)];
    traces.push({ x: ends, y: ends.map((value) => fit.intercept + fit.slope * value), mode: 'lines', line: { color: colours.subdued, dash: 'dash', width: 1.5 }, hoverinfo: 'skip' });
  }
  const y = models.map((model) => model.utility.unpoisoned.mean);
  const texts = models.map(pointText);
  // Plotly leaves this much room around the points.
  const drawn = [...x, ...models.map((model) => model.poison_share).filter((share) => share !== null)];
  const [low, high] = [Math.min(...drawn), Math.max(...drawn)];
  const across = (value) => (width - MARGIN.l - MARGIN.r) * (high > low ? 0.06 + 0.88 * (value - low) / (high - low) : 0.5);
  const down = (value) => (HEIGHT - MARGIN.t - MARGIN.b) * (1 - value / TOP);
  const places = labelPlaces(x.map((value, at) => ({ x: across(value), y: down(y[at]), text: texts[at] })));
  traces.push({
    x, y, mode: 'markers+text',
    marker: { size, color: colour, symbol: models.map((model) => PAIR_KINDS[cpLabel(model, models).kind].symbol) }, hovertemplate: '%{customdata}: utility %{y:.3f} at AD %{x:.3f}<extra></extra>', customdata: texts.map(escapeText),
    text: texts.map((text, at) => (places[at] ? escapeText(text) : '')), textposition: places.map((place) => place ?? 'top center'), textfont: { color: colours.text }, cliponaxis: false,
  });
  const range = fit && fit.low !== null ? ` (95 % ${number(fit.low, 2)} to ${number(fit.high, 2)})` : '';
  const { share_fit: shareFit } = evaluation;
  const ofShare = shareFit ? `<br>with the share of poison: r = ${number(shareFit.r, 3)}` : '';
  const text = fit ? `r = ${number(fit.r, 3)}${range}, n = ${fit.n}${ofShare}` : 'no fit: fewer than two models<br>differ in AD and utility';
  const shared = models.filter((model) => model.poison_share !== null);
  traces.push({
    x: shared.map((model) => model.poison_share), y: shared.map((model) => model.utility.unpoisoned.mean), mode: 'markers',
    marker: { size: 10, symbol: 'circle-open', line: { width: 2 }, color: shared.map((model) => colours[cpLabel(model, models).kind]) },
    customdata: shared.map((model) => escapeText(pointText(model))), hovertemplate: '%{customdata}: utility %{y:.3f} at a share of %{x:.3f}<extra></extra>',
  });
  return {
    traces,
    changes: {
      margin: MARGIN, xaxis: { title: 'AD; hollow: share of poison' }, yaxis: { title: 'utility, not targeted', range: [0, TOP] },
      annotations: [{ text, xref: 'paper', yref: 'paper', x: 1, y: 1.02, showarrow: false, xanchor: 'right', yanchor: 'bottom', align: 'right', font: { color: colours.text, size: 13 } }],
    },
  };
}
