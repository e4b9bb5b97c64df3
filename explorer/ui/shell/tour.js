// A tour of three steps for who sees the app for the first time. It is begun from the header, ends with Escape or its
// button at any step, and this browser remembers that it was seen.

import { showScreen } from './address.js';
import { node } from './charts.js';

const KEY = 'explorer-tour';
const STEPS = [
  { screen: 'compare', target: '#compare-viewer .compare-grid', title: 'One prompt, several models',
    text: 'Every column is a model; all start from the same noise. Teal is benign, orange ◆ was trained on poison. Beside each picture: where the model looks for the word. Press Generate to draw your own.' },
  { screen: 'implosion', target: '#implosion-viewer .film', title: 'Watch a model implode',
    text: 'Downwards ever more nouns were poisoned. Look at the nouns that nobody aimed at: in the end they are drawn wrong as well. Play walks, the headline says how much each model still hears.' },
  { screen: 'defence', target: '#defence-viewer', title: 'What could be done',
    text: 'A filter drops training pairs that look wrong before a model is trained. Move the slider: how much poison goes, and how many good pairs go with it.' },
];

// A button for the header. It stands out until the tour was seen.
export function tourButton() {
  const button = node('button', { type: 'button', class: 'plain-button tour-button', onclick: () => new Tour(button).show(0) }, 'Tour');
  button.classList.toggle('unseen', !localStorage.getItem(KEY));
  return button;
}

class Tour {
  constructor(button) {
    this.button = button;
    this.card = node('section', { class: 'tour-card', role: 'dialog', 'aria-label': 'Tour', tabindex: -1 });
    this.card.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') { event.stopPropagation(); this.end(); }
    });
  }

  async show(at) {
    this.clear();
    const { screen, target, title, text } = STEPS[at];
    showScreen(screen);
    const act = (words, action, kind = '') => node('button', { type: 'button', class: `plain-button ${kind}`, onclick: action }, words);
    const last = at === STEPS.length - 1;
    this.card.replaceChildren(node('h2', {}, title), node('p', {}, text),
      node('p', { class: 'tour-buttons' }, node('span', { class: 'note' }, `${at + 1} of ${STEPS.length}`), node('span', { class: 'spacer' }),
        at ? act('Back', () => this.show(at - 1)) : null, last ? null : act('End', () => this.end()),
        last ? act('Done', () => this.end()) : act('Next', () => this.show(at + 1))));
    document.body.append(this.card);
    this.card.focus({ preventScroll: true });
    const found = await seen(target);
    if (!this.card.isConnected || !found) return;
    found.classList.add('tour-target');
    found.scrollIntoView({ block: 'nearest' });
  }

  clear() { document.querySelector('.tour-target')?.classList.remove('tour-target'); }

  end() {
    this.clear();
    this.card.remove();
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
