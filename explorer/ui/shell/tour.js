// A tour of three steps for who sees the app for the first time. It is begun from the header, ends with Escape or its
// button at any step, and this browser remembers that it was seen.

import { proposeChoices, readChoices, showScreen } from './address.js';
import { node } from './charts.js';

const KEY = 'explorer-tour';
const EDGES = 16; // that scrolling leaves around what is spoken of, as in base.css
const STEPS = [
  { screen: 'compare', target: '#compare-viewer .compare-grid', title: 'One prompt, several models',
    text: 'Every column is a model; all start from the same noise. Teal is benign, orange ◆ was trained on poison. With each picture: where the model looks for the word. Press Generate to draw your own.' },
  { screen: 'implosion', target: '#implosion-viewer .film:not(:empty)', title: 'Watch a model implode', choices: { prefix: 'i', of: 'unpoisoned', from: 0 },
    text: 'Downwards ever more nouns were poisoned. Look at those that are not targeted: nobody aimed at them, and yet in the end they can be drawn wrong as well. Play walks, the headline says how much each model still hears.' },
  { screen: 'defence', target: '#defence-viewer', title: 'What could be done',
    text: 'A filter drops training pairs that look wrong before a model is trained. Move the slider: how much poison goes, and how many good pairs go with it.' },
];

// A button for the header. It stands out until the tour was seen.
export function tourButton() {
  let open = null;
  const begin = () => { open?.end(); open = new Tour(button); open.show(0); };
  const button = node('button', { type: 'button', class: 'plain-button tour-button', onclick: begin }, 'Tour');
  button.classList.toggle('unseen', !localStorage.getItem(KEY));
  return button;
}

class Tour {
  constructor(button) {
    this.button = button;
    this.further = node('b', {}, ' Scroll: there is more of it below.');
    this.card = node('section', { class: 'tour-card', role: 'dialog', 'aria-label': 'Tour', tabindex: -1 });
    // Wherever the focus is: what the tour speaks of may be clicked meanwhile.
    this.onKey = (event) => { if (event.key === 'Escape') this.end(); };
  }

  async show(at) {
    this.leave();
    this.at = at;
    const { screen, target, choices, title, text } = STEPS[at];
    showScreen(screen);
    if (choices) this.choose(choices);
    const act = (words, action, kind = '') => node('button', { type: 'button', class: `plain-button ${kind}`, onclick: action }, words);
    const last = at === STEPS.length - 1;
    this.card.replaceChildren(node('h2', {}, title), node('p', { class: 'tour-text' }, text, this.further),
      node('p', { class: 'tour-buttons' }, node('span', { class: 'note' }, `${at + 1} of ${STEPS.length}`),
        at ? act('Back', () => this.show(at - 1)) : null, last ? null : act('End', () => this.end()),
        last ? act('Done', () => this.end()) : act('Next', () => this.show(at + 1))));
    document.body.append(this.card);
    document.addEventListener('keydown', this.onKey);
    document.body.classList.add('touring');
    this.fit(true);
    this.card.focus({ preventScroll: true });
    const found = await seen(target);
    if (!this.card.isConnected || this.at !== at || !found) return;
    found.classList.add('tour-target');
    // All of it above the card, or its beginning where it is higher than that.
    const fits = found.offsetHeight <= innerHeight - this.card.offsetHeight - EDGES;
    this.fit(fits);
    found.scrollIntoView({ block: fits ? 'nearest' : 'start' });
  }

  // Says whether more is spoken of than is in sight, and keeps the room that the card takes then.
  fit(fits) {
    this.further.hidden = fits;
    document.body.style.setProperty('--tour-room', `${this.card.offsetHeight}px`);
  }

  // Shows what a step speaks of, in place of what was chosen.
  choose({ prefix, ...choices }) {
    const before = readChoices(prefix);
    const earlier = Object.fromEntries(Object.keys(choices).map((name) => [name, before[name]]));
    this.restore = () => {
      // What was chosen since then is left as it is.
      if (readChoices(prefix).of === choices.of) proposeChoices(prefix, earlier, {});
    };
    proposeChoices(prefix, choices, { from: 0 });
  }

  // What a step did to the page is undone.
  leave() {
    document.querySelector('.tour-target')?.classList.remove('tour-target');
    this.restore?.();
    this.restore = null;
  }

  end() {
    this.leave();
    this.card.remove();
    document.removeEventListener('keydown', this.onKey);
    document.body.classList.remove('touring');
    localStorage.setItem(KEY, 'seen');
    this.button.classList.remove('unseen');
    this.button.focus();
  }
}

// The element, once its screen has been drawn; null where a study has none of it.
async function seen(target, tries = 40) {
  const found = document.querySelector(target);
  if (found?.offsetParent) return found;
  if (!tries) return null;
  await new Promise((resolve) => { setTimeout(resolve, 250); });
  return seen(target, tries - 1);
}
