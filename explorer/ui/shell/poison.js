// What is known of the training data behind a model or of a pair set. Where nobody recorded it, it is not called benign.

export function poisonKind({ poisoned, poisoned_concept_count: concepts, poisoned_pairs: pairs, poison_recorded: recorded }) {
  if (poisoned || concepts || pairs) return 'poisoned';
  return recorded || concepts === 0 ? 'benign' : 'unrecorded';
}

// The first model that is known to be benign; an attack may aim at no concept, so that C_P = 0 alone says no such thing.
export const controlOf = (models) => models.find((model) => poisonKind(model) === 'benign');

// Where the most poisoned model stands among models by C_P, those of which it is not recorded last; the last place where it
// is recorded of none.
export function mostPoisoned(models) {
  const place = models.findLastIndex((model) => model.poisoned_concept_count);
  return place < 0 ? Math.max(0, models.length - 1) : place;
}

export function poisonWords(found, benign = 'benign') {
  const concepts = found.poisoned_concept_count ?? null;
  const poisoned = concepts === null ? 'poisoned, C_P not recorded' : `C_P = ${concepts}`;
  return { poisoned, benign, unrecorded: 'poison not recorded' }[poisonKind(found)];
}

// Of a pair set's pairs: "60 poisoned", and of how many nobody recorded it.
export function poisonedPairs({ poisoned_pairs: poisoned, unrecorded_pairs: unrecorded, poison_recorded: recorded }) {
  if (poisoned === null || poisoned === undefined) return 'poison not recorded';
  const words = `${poisoned.toLocaleString('en-US')} poisoned`;
  return recorded ? words : `${words}, ${unrecorded.toLocaleString('en-US')} not recorded`;
}

// Of a single pair: how each kind is drawn, and the kind in words.
export const PAIR_KINDS = {
  benign: { mark: '●', symbol: 'circle', dash: 'solid', size: 8, words: 'benign' },
  poisoned: { mark: '◆', symbol: 'diamond', dash: 'dash', size: 9, words: 'poisoned' },
  unrecorded: { mark: '■', symbol: 'square', dash: 'longdash', size: 8, words: 'poison not recorded' },
};

// In the order of their numbers in columns.
export const KINDS = Object.keys(PAIR_KINDS);

// An axis of C_P counts concepts: no ticks between them.
export const conceptTicks = (counts) => (Math.max(0, ...counts) <= 6 ? { dtick: 1 } : {});

// Of drawn and evaluated models: by C_P, and by name too where two have the same or nobody recorded it.
export function cpLabel(model, models) {
  const count = model.poisoned_concept_count;
  const shared = models.filter((other) => other.poisoned_concept_count === count).length > 1;
  const name = shared || count === null ? model.name : '';
  if (count === null) return { kind: model.poisoned ? 'poisoned' : 'unrecorded', words: 'C_P not recorded', name };
  const poisoned = model.poisoned ?? count > 0; // an attack may aim at no concept
  return { kind: poisoned ? 'poisoned' : 'benign', words: poisoned ? `C_P = ${count}` : 'benign', name };
}

// Of a concept of the film strip. What no poison aims at may still be named in the captions of poison.
export const NOT_TARGETED = 'no poison pair aims at this noun; the captions of poison may name it all the same';

// Whether a model's poison aims at a concept; null where it is not recorded what it aims at.
export const aimsAt = (model, concept) => model.poisoned_concepts.includes(concept) || (model.poisoned_concepts_known ? false : null);

// What the poison of these models is to a concept: its kind, as of a pair, that in words, and what the words do not say.
// Models that are poisoned with more concepts need not be poisoned with the same ones.
export function aimOf(concept, from, models) {
  const aimed = models.filter((model) => aimsAt(model, concept));
  const silent = models.filter((model) => aimsAt(model, concept) === null).map((model) => model.name);
  if (aimed.length) {
    const nested = models.every((model) => !(model.poisoned_concept_count >= from) || aimsAt(model, concept));
    const which = aimed.length === 1 ? aimed[0].name : `${aimed.length} models`;
    return { kind: 'poisoned', words: nested ? `poisoned from C_P ${from}` : `poisoned in ${which}`, title: nested ? null : `poisoned in ${aimed.map((model) => model.name).join(', ')}` };
  }
  if (silent.length) return { kind: 'unrecorded', words: 'aim not recorded', title: `it is not recorded which nouns the poison of ${silent.join(', ')} aims at` };
  return { kind: 'benign', words: 'not targeted', title: NOT_TARGETED };
}
