// What stands below the film strip: the scale of its maps, what the marks under its pictures mean, what a flat map is.

import { node, number } from './charts.js';
import { showsFlat, sureWords } from './implosion_film.js';
import { FLAT } from './implosion_strip.js';
import { gradient } from './maps.js';
import { withTerms } from './terms.js';

// `screen` has film, sheets, state, sure, stored_blame and rows.
export function legend(screen) {
  const { film, state, sure, stored_blame: blame } = screen;
  return [...(state.contents === 'images' ? [] : [mapScale(film)]), ...verdictWords(film, sure, Object.keys(blame).length > 0),
    ...(showsFlat(screen, screen.rows) ? [` Flat: ${FLAT}.`] : [])];
}

function mapScale({ map_scale: most }) {
  return node('span', { class: 'map-scale', title: 'One scale for all maps' }, 'Attention: 0', node('span', { class: 'scale-bar', style: `background: ${gradient(false)}` }), number(most));
}

// Nothing where no judge looked at the pictures.
function verdictWords(film, sure, blamed) {
  if (film.models[0].cells[0].top_concept === undefined) return [];
  const words = `The judge’s word, which errs as well: ✓ it names the noun first and is sure; ? it names it first, in doubt (${sureWords(sure)}); ✗ what it takes the picture for instead.`;
  const asked = node('span', { class: 'not-in-talk' }, ' Underlined, where it was measured: a click shows the training pairs that are blamed for the picture.');
  return [...withTerms(words, ['CLIP similarity', 'tau']), ...(blamed ? [asked] : [])];
}
