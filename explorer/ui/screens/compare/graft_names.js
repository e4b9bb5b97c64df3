// What the parts of a model are called.

import { poisonWords } from './poison.js';

export const GROUPS = {
  'cross-attention-keys-values': 'Cross-attention: keys and values',
  'cross-attention-queries-output': 'Cross-attention: queries and output',
  'self-attention': 'Self-attention',
  'feed-forward': 'Feed-forward',
  'transformer-norms-projections': 'Other parts of transformer blocks',
  convolutions: 'Convolutions',
  'time-embedding': 'Time embedding',
  'text-keys-values': 'Text: keys and values',
  'text-queries-output': 'Text: queries and output',
  'picture-attention': 'Picture: attention',
  'shared-attention': 'Picture and text: shared attention',
  modulation: 'Modulation',
  embedders: 'First and last layers',
};

// What a column is called, and what is known of it: its poison or, of a graft, what was moved.
export const titleOf = (column) => column.graft?.title ?? column.model;
export const tagOf = (column) => (column.graft ? `graft: ${partWords(column.graft.parts)}` : poisonWords(column));

// The parts that were moved, [name, weight] each.
export const partWords = (parts) => [...parts].filter(([, weight]) => weight)
  .map(([group, weight]) => `${GROUPS[group] ?? group} ${weight}`).join('; ');
