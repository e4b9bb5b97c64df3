// Which concepts the film strip shows, and in which order.

import { heardLeast } from './implosion_meter.js';
import { controlOf } from './poison.js';

export const RANDOM_SEEDS = 1000;
const MIXED = 'mixed';

// What may be chosen for a study: [value, words, title]; what its results do not allow is absent.
export function groupsOf(film, meter) {
  const last = changedIn(film, meter);
  const by = last && `, by ${last.by} in ${last.model}`;
  const known = film.models.every((model) => model.poisoned_concepts_known);
  return [
    [MIXED, known ? 'poisoned and not targeted' : 'poisoned and others'], ['poisoned', 'poisoned concepts'],
    ...(film.concepts.some((each) => each.poisoned_from === null) ? [['unpoisoned', known ? 'concepts not targeted' : 'not recorded as targeted']] : []),
    ...(last ? [['changed', `most changed${by}`], ['unchanged', `least changed${by}`]] : []),
    ['random', 'random concepts'], ['chosen', 'chosen concepts'],
  ];
}

const NEAR = 2; // letters that may be wrong

// Up to three of the names that a mistyped word may have meant, the nearest first; in messages of the command line it is
// `explorer/core/near_names.py` that finds them.
export function nearestNames(word, names) {
  const wrong = (name) => lettersBetween(word.toLowerCase(), name.toLowerCase());
  const found = names.map((name) => [name, wrong(name)]).filter(([name, letters]) => letters <= Math.min(NEAR, name.length / 2));
  return found.sort(([, one], [, other]) => one - other).slice(0, 3).map(([name]) => name);
}

// How many letters have to be put in, left out or replaced (Levenshtein).
function lettersBetween(one, other) {
  let before = Array.from({ length: other.length + 1 }, (_, at) => at);
  [...one].forEach((letter, row) => {
    const now = [row + 1];
    for (let at = 1; at <= other.length; at += 1) {
      now.push(Math.min(now[at - 1] + 1, before[at] + 1, before[at - 1] + (other[at - 1] === letter ? 0 : 1)));
    }
    before = now;
  });
  return before[other.length];
}

// Concepts with their `row` in the strip, in the order of the choice `of`. `words` are the names chosen, `seed` draws.
export function orderOf(film, meter, { of, words, seed }) {
  const all = film.concepts.map((concept, row) => ({ ...concept, row }));
  const poisoned = all.filter((each) => each.poisoned_from !== null).sort((a, b) => a.poisoned_from - b.poisoned_from);
  const unpoisoned = all.filter((each) => each.poisoned_from === null);
  if (of === 'poisoned') return poisoned;
  if (of === 'unpoisoned') return unpoisoned;
  if (of === 'chosen') return words.map((word) => all.find(({ concept }) => concept === word)).filter(Boolean);
  if (of === 'random') return shuffled(all, seed);
  if (of === 'changed' || of === 'unchanged') {
    const { falls } = changedIn(film, meter);
    const known = all.filter(({ concept }) => falls.has(concept)).sort((a, b) => falls.get(b.concept) - falls.get(a.concept));
    return of === 'changed' ? known : known.reverse();
  }
  const mixed = [];
  for (let at = 0; at < Math.max(poisoned.length, unpoisoned.length); at += 1) {
    mixed.push(...poisoned.slice(at, at + 1), ...unpoisoned.slice(at, at + 1));
  }
  return mixed;
}

// On a page that mixes both kinds the poisoned ones stand together.
export const onPage = (rows, of) => (of === MIXED
  ? [...rows.filter((row) => row.poisoned_from !== null), ...rows.filter((row) => row.poisoned_from === null)] : rows);

// How far every concept has fallen in the most poisoned model: by the meter where the study has one, else by how well the
// pictures fit their prompts. Null where neither is known.
function changedIn(film, meter) {
  const models = film.models.filter((model) => model.poisoned_concept_count);
  const last = models[models.length - 1];
  if (!last) return null;
  const heard = heardLeast(meter, last.name);
  if (heard.length) return { model: last.name, by: 'word sensitivity', falls: new Map(heard.map(({ concept, ratio }) => [concept, 1 - ratio])) };
  const control = controlOf(film.models);
  if (!control || last.cells[0].clip_similarity === undefined) return null;
  const falls = film.concepts.map(({ concept }, row) => [concept, control.cells[row].clip_similarity - last.cells[row].clip_similarity]);
  return { model: last.name, by: 'CLIP similarity', falls: new Map(falls) };
}

// The same order for a seed on every machine (mulberry32, then Fisher and Yates).
function shuffled(items, seed) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const order = [...items];
  for (let at = order.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}
