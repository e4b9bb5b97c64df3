// What the screen is for, in a sentence above everything that can be chosen.

import { node } from './charts.js';
import { withTerms } from './terms.js';

const NOTE = 'One prompt, drawn from the same noise by several models: what poison changes in a picture, and how each model reads the prompt (its attention).';

export function mount({ element }) {
  element.querySelector('.viewer-root').replaceChildren(node('p', { class: 'screen-note' }, withTerms(NOTE, ['attention'])));
}
