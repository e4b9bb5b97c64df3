// What is known of the training data behind a model or of a pair set. Where nobody recorded it, it is not called benign.

export function poisonKind({ poisoned_concept_count: count, poison_recorded: recorded }) {
  if (count) return 'poisoned';
  return recorded ? 'benign' : 'unrecorded';
}

export function poisonWords(found, benign = 'benign') {
  return { poisoned: `C_P = ${found.poisoned_concept_count}`, benign, unrecorded: 'poison not recorded' }[poisonKind(found)];
}

// Of evaluated models, whose poison is always recorded: by C_P, and by name too where two have the same.
export function cpLabel(model, models) {
  const count = model.poisoned_concept_count;
  const shared = models.filter((other) => other.poisoned_concept_count === count).length > 1;
  return { kind: count ? 'poisoned' : 'benign', words: count ? `C_P = ${count}` : 'benign', name: shared ? model.name : '' };
}

// Of a concept of the film strip. What no poison aims at may still be named in the captions of poison.
export const NOT_TARGETED = 'no poison pair aims at this noun; the captions of poison may name it all the same';

export const targetWords = ({ poisoned_from: from }) => (from === null ? 'not targeted' : `poisoned from C_P ${from}`);
