// What an address says of a graft: `MODEL~OTHER~PART:WEIGHT,PART:WEIGHT`.

import { GROUPS } from './graft_names.js';

const LONGEST = 100; // letters of an address that are told

// Recipient, donor and weights, and the parts that are left out because they are none; null where the two are not models
// of the comparison.
export function readGraft(text, models) {
  const [recipient, donor, moving = ''] = text.split('~');
  if (!models.includes(recipient) || !models.includes(donor) || !moving) return null;
  const parts = moving.split(',').map((part) => [part, ...part.split(':')]);
  const isPart = ([, name, weight]) => name in GROUPS && /^\d*\.?\d+$/.test(weight ?? '') && Number(weight) <= 1;
  return { recipient, donor,
    weights: new Map(parts.filter(isPart).map(([, name, weight]) => [name, Number(weight)])),
    leftOut: parts.filter((part) => !isPart(part)).map(([part]) => part) };
}

export const unreadableWords = (text) => `The address names the graft “${text.slice(0, LONGEST)}”: expected MODEL~OTHER~PARTS, of two models of this comparison.`;

export const leftOutWords = (parts) => `Left out of the graft that the address names: “${parts.join(', ').slice(0, LONGEST)}”. A part is a group of those below, a colon and a number from 0 to 1.`;
