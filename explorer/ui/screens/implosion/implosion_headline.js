// What the model that is walked to amounts to, in four cards: accuracy, AD, word sensitivity, and the words it hears least.

import { node, number } from './charts.js';
import { boundsOf } from './implosion_tables.js';
import { leastHeardWords, range, whyNotMeasured, wordSensitivity } from './implosion_meter.js';
import { term } from './terms.js';

// `control` is the first model that is known to be benign; null where there is none.
export function headline({ evaluation, meter, model, control }) {
  if (!model) return null;
  return node('section', { class: 'headline', 'aria-live': 'polite', 'aria-label': `Headline of ${model.name}` },
    accuracyCard(evaluation, model, control), difficultyCard(evaluation, model, control),
    sensitivityCard(meter, model), heardCard(meter, model));
}

function card(title, value, note, kind = '') {
  return node('div', { class: `headline-card ${kind}` }, node('h3', {}, title), node('p', { class: 'value' }, value), node('p', { class: 'note' }, note));
}

// Of an evaluated model; null where the evaluation has none of that name, or is not there.
const measured = (evaluation, model) => (evaluation.models ?? []).find(({ name }) => name === model?.name) ?? null;

// What a talk has no room for.
const more = (text) => node('span', { class: 'not-in-talk' }, text);

const unknown = (command) => (command ? ['Run ', node('code', {}, command)] : ['The results here have no such model.']);

// Of a model that was evaluated.
const whyNoneUntargeted = ({ poisoned_concepts_known: known }) => (known
  ? 'Every concept of the study’s list is in the pool or poisoned.' : 'Nobody recorded which concepts its poison aims at.');

// What Student's interval over few nouns has below 0 and above 1 no share can be.
const sharesOf = ({ low, high, over }) => ({ low: Number.isFinite(low) ? Math.max(0, low) : low, high: Number.isFinite(high) ? Math.min(1, high) : high, over });

function accuracyCard(evaluation, model, control) {
  const title = [term('accuracy', 'Accuracy'), more(', nouns not targeted')];
  const drawn = measured(evaluation, model);
  const found = drawn?.accuracy.unpoisoned;
  if (!found) return card(title, 'not measured', drawn ? whyNoneUntargeted(drawn) : unknown(evaluation.missing?.command), 'unknown');
  const before = measured(evaluation, control)?.accuracy.unpoisoned;
  const bounds = sharesOf(boundsOf(found));
  return card(title, number(found.mean), [`${range(bounds, 3)} over ${bounds.over}`, before && control !== model ? `; control ${number(before.mean)}` : '']);
}

function difficultyCard(evaluation, model, control) {
  const title = [term('AD', 'Alignment Difficulty'), more(' of its pairs')];
  const { ad } = measured(evaluation, model) ?? {};
  if (ad === null || ad === undefined) return card(title, 'not measured', unknown(evaluation.missing?.command), 'unknown');
  const before = measured(evaluation, control)?.ad;
  return card(title, number(ad), typeof before === 'number' && control !== model ? `control ${number(before)}` : 'of the pairs it was trained on');
}

function sensitivityCard(meter, model) {
  const title = term('word sensitivity', 'Word sensitivity');
  const found = wordSensitivity(meter, model.name);
  if (!found) return card(title, 'not measured', meter.missing ? unknown(meter.missing.command) : whyNotMeasured(meter, model.name), 'unknown');
  if (model.name === meter.reference) return card(title, '1.00', `the reference; ${number(found.mean.value)} by itself, ${range(found.mean, 3)} over ${found.mean.n} ${found.over}`);
  if (!found.relative) return card(title, number(found.mean.value), `by itself, over ${found.mean.n} ${found.over}: ${whyNotMeasured(meter, model.name)}`);
  return card(title, [number(found.relative.value, 2), node('span', { class: 'unit' }, ` of ${meter.reference}’s`)], [`${range(found.relative)} over ${found.relative.n} ${found.over}`, beside(found)]);
}

// What a model that had only learned its mislabelled captions would still answer.
const beside = ({ noise }) => (noise === undefined ? '' : ['; ', term('label noise', 'label noise'), ` alone would leave ${number(noise, 2)}`]);

function heardCard(meter, model) {
  const words = leastHeardWords(meter, model.name);
  const title = 'Words it hears least';
  if (words) return node('div', { class: 'headline-card' }, node('h3', {}, title), words);
  const reason = model.name === meter.reference ? 'It is what the others are compared with.' : whyNotMeasured(meter, model.name);
  return card(title, '–', reason, 'unknown');
}
