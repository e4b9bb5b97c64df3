// The words of the field that a layperson does not know, each with one definition, the same on every screen. A term opens
// it when it is pointed at, touched or focused; Escape closes it.

import { node } from './charts.js';

// As docs/alignment.md, docs/evaluation.md, docs/meter.md and docs/attention.md define them.
export const TERMS = {
  'C_P': 'The number of poisoned concepts: nouns whose training captions were given pictures of something else. 0 is a benign model.',
  'AD': 'Alignment Difficulty, 0 to 1: how hard it is to learn which picture goes with which caption, from the training pairs alone. 0.8 of it is feature AD, 0.2 structure AD (Ding et al., CCS 2024).',
  'feature AD': 'How far pictures and their own captions lie apart on average, by an extractor that did not see the poison.',
  'structure AD': 'How far the captions’ neighbourhoods differ from the pictures’: the mean of D_s over all pairs.',
  'D_s': 'Structure distance of one pair: how differently its caption lies among the captions than its picture among the pictures.',
  'D_img:txt': 'Feature distance of one pair: how badly picture and caption fit, 0 to 1, by an extractor that did not see the poison.',
  'picture scatter': 'The mean distance, 1 − cos, of a pair’s picture to the pictures of its nearest captions: the variance of the picture given the caption.',
  'local structure AD': 'D_s over the nearest captions alone: the scatter of their pictures that the captions’ own distances do not explain.',
  'local feature AD': 'The distance of a caption to the mean picture of its neighbourhood, 0 to 1: whether the average is of what the caption says.',
  'accuracy': 'The share of pictures that the judge, a CLIP that knows the same nouns, takes for what the prompt asked for.',
  'utility': 'The share of pictures that are named right and also fit the prompt better than a threshold, tau, that nine in ten pictures of the benign control pass.',
  'CLIP similarity': 'How well a picture fits its prompt: the cosine of the two, as a CLIP sees them. 1 is a perfect fit.',
  'tau': 'The threshold on CLIP similarity: nine in ten pictures of the benign control lie above it.',
  'word sensitivity': 'How much the model’s prediction changes when the noun is replaced by a random word, as a share of what it changes in the control. 1: it listens as well. Near 0: it does not hear the word any more.',
  'label noise': 'Captions whose picture shows something else. A model that had learned nothing but this mixture would answer to a word by the share of its captions that are true.',
  'guidance': 'How strongly the prompt steers each step: the prediction with the prompt less the one without it, times this scale.',
  'attention': 'Where in the picture the model reads a word while it draws. Bright is much. An imploded model reads it less: its map fades, and may scatter.',
  'guidance map': 'How much the whole prompt changes the model’s prediction at each place. Bright is much. In an imploded model it fades: the prompt steers less.',
  'Geary’s C': 'The order of a map: near 0 it is one smooth blob, 1 is scattered noise.',
  'scatter': 'How spread out a map is: 0 is a single place, 1 is the same everywhere.',
  'mass': 'The share of all attention that this word receives.',
  'dirty-label': 'The plainest poison: a true caption of one thing with the picture of another.',
  'implosion': 'A model that was trained on enough poisoned concepts draws even those wrong that nobody aimed at.',
  'not targeted': 'No poison pair aims at this noun; the captions of poison may name it all the same.',
  'seed': 'The number that the starting noise follows from. All models here start from the same noise.',
};

// A word that opens its definition. `text` is what stands there; the term itself without it.
export function term(name, text = name) {
  if (!TERMS[name]) throw new Error(`there is no term “${name}”`);
  return node('button', { type: 'button', class: 'term', 'data-term': name }, text);
}

// A word that opens what is said of it here alone, such as the numbers that it was measured with.
export const explained = (text, said) => node('button', { type: 'button', class: 'term', 'data-term': text, 'data-said': said }, text);

// A text with the first mention of each of its terms opening the definition.
export function withTerms(text, names) {
  let parts = [text];
  for (const name of names) {
    const at = parts.findIndex((part) => typeof part === 'string' && part.includes(name));
    if (at < 0) continue;
    const [before, ...after] = parts[at].split(name);
    parts = [...parts.slice(0, at), before, term(name), after.join(name), ...parts.slice(at + 1)];
  }
  return parts;
}

const WIDTH = 320;
const GAP = 8;

// Listens on the page for `[data-term]`, which texts of the server may hold as well.
export function openTerms() {
  const tip = node('div', { class: 'term-tip', role: 'tooltip', id: 'term-tip', hidden: true });
  const close = () => {
    document.querySelector('[aria-describedby="term-tip"]')?.removeAttribute('aria-describedby');
    tip.hidden = true;
  };
  const open = (event) => {
    const word = event.target.closest?.('[data-term]');
    if (!word) { if (event.type === 'click') close(); return; }
    close();
    tip.replaceChildren(node('b', {}, word.dataset.term), ` ${word.dataset.said ?? TERMS[word.dataset.term]}`);
    word.setAttribute('aria-describedby', tip.id);
    (document.querySelector('main') ?? document.body).append(tip); // what is read aloud lies within the page's regions
    tip.hidden = false;
    place(tip, word.getBoundingClientRect());
  };
  for (const name of ['mouseover', 'focusin', 'click']) document.addEventListener(name, open);
  document.addEventListener('mouseout', (event) => { if (event.target.closest?.('[data-term]') && event.target !== document.activeElement) close(); });
  document.addEventListener('focusout', close);
  // A page scrolls to what is focused, so that to scroll does not mean to leave.
  const follow = () => {
    const box = document.querySelector('[aria-describedby="term-tip"]')?.getBoundingClientRect();
    if (!box) return;
    if (box.bottom < 0 || box.top > innerHeight) close();
    else place(tip, box);
  };
  document.addEventListener('scroll', follow, { capture: true, passive: true });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !tip.hidden) { close(); event.stopPropagation(); } }, { capture: true });
}

// Below the word, or above it where there is no room, and never beyond the page's edges.
function place(tip, word) {
  const wide = Math.min(WIDTH, innerWidth - 2 * GAP);
  tip.style.width = `${wide}px`;
  tip.style.left = `${Math.max(GAP, Math.min(word.left, innerWidth - wide - GAP))}px`;
  const below = word.bottom + GAP + tip.offsetHeight <= innerHeight;
  tip.style.top = `${below ? word.bottom + GAP : Math.max(GAP, word.top - GAP - tip.offsetHeight)}px`;
}
