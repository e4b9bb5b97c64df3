// What an address says of a comparison: which one, and how it is viewed.

import { ATTENTION, isKind } from './compare_kinds.js';
import { DRAWN, GIVEN } from './compare_given.js';

const COMPARISON_KEYS = ['v', 'p', 's', 'n', 'g', 'x', 'm']; // as explorer/ui/shell/permalink.py writes them

// What decides the pictures of a comparison, from the query of its link.
export function comparisonOf(text) {
  const query = new URLSearchParams(text);
  return JSON.stringify(COMPARISON_KEYS.map((key) => query.getAll(key)));
}

// The comparison that the address names, and how it is to be viewed; null where it names none.
export function readLink() {
  const named = new URLSearchParams(location.search).has('v');
  return named ? { comparison: comparisonOf(location.search), view: readView(location.search) } : null;
}

export function readView(text) {
  const query = new URLSearchParams(text);
  const whole = (text) => (/^\d{1,4}$/.test(text ?? '') ? Number(text) : 0);
  const [stack, layer] = (query.get('l') ?? '').split('.');
  const numbers = (key) => query.get(key)?.split('.').filter((text) => /^\d{1,3}$/.test(text)).map(Number);
  const linked = numbers('k');
  return {
    kind: isKind(query.get('map')) ? query.get('map') : ATTENTION,
    on: query.get('on') === GIVEN ? GIVEN : DRAWN,
    step: whole(query.get('t')), stack: whole(stack), layer: whole(layer), head: whole(query.get('h')),
    scale: query.get('z') === 'map' ? 'map' : 'absolute',
    view: ['overlay', 'difference'].includes(query.get('w')) ? query.get('w') : 'map',
    graft: query.get('graft'), hover: null, pins: null, linked: linked?.length ? linked : null, order: numbers('o') ?? null,
  };
}
