// The meter on the screen Implosion: numbers of it for the headline and the tables, and the words heard least.

import { missingStep, node, number, saveTableButton, scrollable, withOrigin } from './charts.js';
import { PAIR_KINDS, aimOf, aimsAt, cpLabel } from './poison.js';

const GROUPS = [['unpoisoned', 'nouns not targeted'], ['all', 'all nouns']];
const FEWEST = 5; // words that the headline names

const modelOf = (meter, name) => (meter.models ?? []).find((model) => model.name === name);

// Of a model by its name: what one number says for it, {mean, relative, over}, and what mislabelled captions alone would
// leave of the reference's, `noise`, undefined where that is not known; null where nobody measured it. As
// `word_sensitivity` in `explorer/ui/shell/study_meter.py`.
export function wordSensitivity(meter, name) {
  const model = modelOf(meter, name);
  const groups = model?.measures.sensitivity?.groups ?? {};
  const found = GROUPS.find(([group]) => groups[group]);
  return found ? { ...groups[found[0]], over: found[1], noise: model.label_noise?.[found[0]] } : null;
}

export function range({ low, high }, digits = 2) {
  return low === null ? 'no interval' : `[${number(low, digits)}, ${number(high, digits)}]`;
}

// Why a number is not there, in a few words; what is unknown is never shown as zero.
export function whyNotMeasured(meter, name) {
  if (meter.problem) return 'not measured';
  const model = modelOf(meter, name);
  return model ? model.not_measured.relative ?? model.not_measured.sensitivity ?? 'not measured' : 'not measured of this model';
}

// The concepts that a model's ratio to the reference is lowest for, lowest first: [{concept, poisoned_from, ratio}].
export function heardLeast(meter, name) {
  const heard = modelOf(meter, name)?.measures.sensitivity?.heard;
  if (!heard || name === meter.reference) return [];
  return meter.concepts.map((concept, at) => ({ ...concept, ratio: heard[at] }))
    .filter(({ ratio }) => ratio !== null).sort((one, other) => one.ratio - other.ratio);
}

export function leastHeardWords(meter, name) {
  const words = heardLeast(meter, name).slice(0, FEWEST);
  if (!words.length) return null;
  return node('ul', { class: 'heard' }, words.map((word) => {
    const kind = { true: 'poisoned', false: 'benign', null: 'unrecorded' }[aimsAt(modelOf(meter, name), word.concept)];
    return node('li', { class: kind, title: aimOf(word.concept, word.poisoned_from, meter.models).words },
      `${PAIR_KINDS[kind].mark} ${word.concept} `, node('b', {}, number(word.ratio, 2)));
  }));
}

// Every word's ratio by model, those that the last model hears least first.
export function heardTable(meter) {
  if (meter.missing) return missingStep(meter.missing);
  if (meter.problem) return node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'No meter.'), meter.problem);
  const compared = meter.models.filter((model) => heardLeast(meter, model.name).length);
  if (!compared.length) return node('p', { class: 'lead' }, 'The meter was measured without a reference that its models compare with.');
  const heads = ['Noun', 'Poison', ...compared.map((model) => {
    const { words, name } = cpLabel(model, meter.models);
    return name ? `${words}, ${name}` : words;
  })];
  const order = heardLeast(meter, compared[compared.length - 1].name);
  const rows = order.map((word) => node('tr', {}, node('th', { scope: 'row' }, word.concept), node('td', {}, aimOf(word.concept, word.poisoned_from, meter.models).words),
    compared.map((model) => node('td', { class: 'number' }, number(model.measures.sensitivity.heard[meter.concepts.findIndex(({ concept }) => concept === word.concept)], 2)))));
  const table = node('table', { class: 'explorer-table' },
    node('thead', {}, node('tr', {}, heads.map((head, at) => node('th', { scope: 'col', class: at > 1 ? 'number' : '' }, head)))),
    node('tbody', {}, rows));
  return node('details', { class: 'implosion-table', ...withOrigin(meterOrigin(meter)) },
    node('summary', {}, `Which words each model still hears: all ${order.length}`),
    node('header', { class: 'table-head' }, node('p', { class: 'lead' }, `Sensitivity to the noun over that of ${meter.reference}: 1 is heard as well, 0 not at all. ${meterWords(meter)}`), saveTableButton('words-heard', table)),
    scrollable('scroll', 'Which words each model still hears', table));
}

// What every model was shown for the meter's numbers; nothing where there are none.
export const meterOrigin = ({ problem, template: prompt, shown, timesteps, draws, seed, reference, models }) => (problem ? {}
  : { meter: { prompt, shown, timesteps, draws, seed, reference, models: models.map(({ name }) => name) } });

export const meterWords = ({ shown, timesteps, draws }) => (
  `On ${shown}, t = ${timesteps.join(' and ')}, ${draws} draws, one noise, one training run a model.`);
