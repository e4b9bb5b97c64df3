// What stands below the film strip: the scale of its maps, what the marks under its pictures mean, what a flat map is.

import { node, number } from './charts.js';
import { kindsOf, marksShown, sureWords } from './implosion_film.js';
import { gradient } from './maps.js';
import { term, withTerms } from './terms.js';

// `screen` has film, sheets, state, sure, stored_blame and rows.
export function legend(screen) {
  const { film, state, sure, stored_blame: blame } = screen;
  const kinds = kindsOf(state.contents);
  return [...(kinds.includes('maps') ? [mapScale('attention', film.map_scale)] : []), ...(kinds.includes('guidance') ? [mapScale('guidance map', film.guidance_map_scale)] : []),
    ...verdictWords(film, sure, Object.keys(blame).length > 0),
    ...marksShown(screen, screen.rows).map(([word, why]) => ` ${word[0].toUpperCase()}${word.slice(1)}: ${why}.`)];
}

function mapScale(name, most) {
  return node('span', { class: 'map-scale', title: 'One scale for all maps of this kind' }, term(name, `${name[0].toUpperCase()}${name.slice(1).replace(' map', '')}: 0`), node('span', { class: 'scale-bar', style: `background: ${gradient(false)}` }), number(most));
}

// Nothing where no judge looked at the pictures.
function verdictWords(film, sure, blamed) {
  if (film.models[0].cells[0].top_concept === undefined) return [];
  const words = `The judge’s word, which errs as well: ✓ it names the noun first and is sure; ? it names it first, in doubt (${sureWords(sure)}); ✗ what it takes the picture for instead.`;
  const asked = node('span', { class: 'not-in-talk' }, ' Underlined, where it was measured: a click shows the training pairs that are blamed for the picture.');
  return [...withTerms(words, ['CLIP similarity', 'tau']), ...(blamed ? [asked] : [])];
}
