// What is saved with the film strip: the settings inside its pictures, and all that is said of what is shown, as JSON.

import { studyShown } from './address.js';
import { kindsOf, verdictOf } from './implosion_film.js';
import { aimOf, aimsAt } from './poison.js';

export function stripSettings({ film, sure, models }, rows) {
  const { prompt, seed, steps, guidance_scale: guidance, map_scale: scale, guidance_map_scale: guidanceScale = null } = film;
  return { study: studyShown(), prompt, seed, steps, guidance_scale: guidance, link: location.href, sure, map_scale: scale, guidance_map_scale: guidanceScale,
    concepts: rows.map((row) => row.concept), models: models.map((model) => model.name) };
}

// Of every model what is known of its poison, and of its picture of every concept what is shown of it.
export function stripFacts(screen, rows) {
  const { film, sure, models, sheets, state } = screen;
  const maps = kindsOf(state.contents).includes('maps');
  return {
    ...stripSettings(screen, rows), tau: screen.tau,
    concepts: rows.map((row) => ({ concept: row.concept, poisoned_from: row.poisoned_from, poison: aimOf(row.concept, row.poisoned_from, film.models).words })),
    models: models.map((model, column) => {
      const { name, poisoned = null, poisoned_concept_count: count, poisoned_concepts_known: known } = model;
      const pictures = rows.map((row) => {
        const facts = model.cells[row.row];
        return { concept: row.concept, poisoned: aimsAt(model, row.concept), ...facts, verdict: verdictOf(facts, row.concept, sure)?.words ?? null,
          ...maps && { map_is_flat: sheets.flat[column][row.row] } };
      });
      return { name, poisoned, poisoned_concept_count: count, poisoned_concepts_known: known, pictures };
    }),
    left_out: 'Pictures and the values of the maps: PNG and SVG have them as pictures.',
  };
}
