// The study's measurements as a table.

import { missingStep, node, number, saveTableButton, scrollable, withOrigin } from './charts.js';
import { meterOrigin, range, whyNotMeasured, wordSensitivity } from './implosion_meter.js';
import { NOT_TARGETED, poisonKind } from './poison.js';
import { term } from './terms.js';

const percent = (value) => (value === null || value === undefined ? '–' : value.toFixed(3));

const cpWords = ({ poisoned_concept_count: count }) => (count === null ? 'not recorded' : String(count));

// Over nouns: the noises are the same for all of them and few, so that they are no replications. Evaluations of earlier
// releases have the interval over noises alone, and so has a single noun.
export function boundsOf(estimate) {
  const overNouns = Number.isFinite(estimate.over_concepts?.low);
  return overNouns ? { ...estimate.over_concepts, over: 'nouns' } : { low: estimate.low, high: estimate.high, over: 'seeds' };
}

function interval(estimate) {
  if (!estimate) return node('td', { class: 'number' }, '–');
  const { low, high, over } = boundsOf(estimate);
  const known = Number.isFinite(low) && Number.isFinite(high);
  const title = known ? `95 % interval over ${over} ${percent(low)} to ${percent(high)}` : `no interval over ${over}: one alone, or all alike`;
  return node('td', { class: 'number', title }, percent(estimate.mean), known ? node('span', { class: 'reach' }, ` ±${((high - low) / 2).toFixed(3)}`) : null);
}

// `origin` is what of the study's pictures and meter its numbers are of; null for those of several studies or the paper.
export function table(name, caption, note, heads, rows, origin = null) {
  const made = node('table', { class: 'explorer-table' },
    node('thead', {}, node('tr', {}, heads.map((head, at) => node('th', { scope: 'col', class: at > 1 ? 'number' : '' }, head)))),
    node('tbody', {}, rows));
  return node('section', { class: 'implosion-table', ...origin && withOrigin(origin) },
    node('header', { class: 'table-head' }, node('h3', {}, caption), saveTableButton(name, made)),
    scrollable('scroll', caption, made), node('p', { class: 'lead' }, note));
}

function listening(meter, name) {
  const found = wordSensitivity(meter, name);
  if (!found?.relative) return node('td', { class: 'number', title: whyNotMeasured(meter, name) }, 'not measured');
  return node('td', { class: 'number', title: `95 % interval over ${found.over}: ${range(found.relative)}` }, number(found.relative.value, 2));
}

function overConcepts(estimate) {
  if (!estimate) return node('td', { class: 'number' }, '–');
  const reach = estimate.low === null ? 'no interval: one concept, or all alike' : `95 % interval over ${estimate.concepts} concepts ${percent(estimate.low)} to ${percent(estimate.high)}`;
  return node('td', { class: 'number', title: reach }, percent(estimate.mean),
    estimate.low === null ? null : node('span', { class: 'reach' }, ` ±${((estimate.high - estimate.low) / 2).toFixed(3)}`));
}

export function worldTable(evaluation, meter) {
  if (evaluation.missing) return missingStep(evaluation.missing);
  if (evaluation.problem) {
    return node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'No measurements.'), evaluation.problem);
  }
  const heads = ['Model', term('C_P'), term('feature AD', 'Feature AD'), term('structure AD', 'Structure AD'), term('AD'),
    [term('accuracy', 'Accuracy'), ', all'], 'Accuracy, not targeted', 'Accuracy, poisoned', [term('utility', 'Utility'), ', not targeted'],
    term('word sensitivity', 'Word sensitivity'), [term('Geary’s C'), ', late'], [term('attention', 'Attention'), ', late']];
  const judged = evaluation.models.some(({ classifier }) => classifier);
  if (judged) heads.push('Classifier, clean', 'Classifier, poisoned');
  const seesBroken = evaluation.models.some(({ classifier }) => classifier?.broken);
  if (seesBroken) heads.push('Broken, clean');
  const rows = evaluation.models.map((model) => node('tr', {},
    node('th', { scope: 'row' }, node('span', { class: `dot ${poisonKind(model)}` }), model.name),
    node('td', {}, cpWords(model)),
    ['feature_ad', 'structure_ad', 'ad'].map((key) => node('td', { class: 'number' }, number(model[key]))),
    [model.accuracy.all, model.accuracy.unpoisoned, model.accuracy.poisoned, model.utility.unpoisoned].map((each) => interval(each)),
    listening(meter, model.name),
    interval(model.late_contiguity.unpoisoned), interval(model.late_word_mass.unpoisoned),
    judged ? [overConcepts(model.classifier?.clean), overConcepts(model.classifier?.poisoned)] : null,
    seesBroken ? overConcepts(model.classifier?.broken) : null));
  const { prompt, steps, guidance_scale: guidance } = evaluation.drawn;
  const note = `“${prompt}” for every concept C, ${evaluation.seeds.length} seeds, ${steps} steps, guidance ${guidance}. `
    + `Accuracy: the extractor's top-1 is the concept. Utility: ${evaluation.utility_definition} (τ = ${number(evaluation.tau)}). ± is the 95 % interval over nouns (over the seeds of the noise where it says so when pointed at), not over training runs, of which each model has one. Not targeted: ${NOT_TARGETED}. `
    + `Word sensitivity: as a share of ${meter.reference ? `${meter.reference}’s` : 'the control’s'}, over nouns not targeted. `
    + 'Late: maps of nouns not targeted, over the last third of the steps. Geary’s C: near 0 is a smooth blob, 1 is scattered noise; attention: what the noun receives, averaged over the picture.'
    + (judged ? ' Classifier: it sees what was asked, over concepts that this model’s own poison does not aim at (clean) and over those that it does; ± is over concepts.' : '')
    + (seesBroken ? ' Broken: it takes the picture for one that shows nothing (undefined, in the paper’s words), not for another thing (misaligned).' : '');
  return table('measured-here', 'Measured here', note, heads, rows, { drawn: evaluation.drawn, ...meterOrigin(meter) });
}

