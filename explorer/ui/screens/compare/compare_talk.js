// The line above the columns, with the words of the prompt, and how the columns fit a projector in talk mode.

import { node } from './charts.js';
import { columnWidth, isNarrow } from './column_rows.js';
import { Legend } from './compare_legend.js';
import { TALK_CHANGED, TALK_LEAVING, talkButton, talking } from './talk.js';

const LEAST = 110; // pixels of a picture's side in talk mode
const [GAP, PADDING, BESIDE, CAPTION] = [8, 26, 150, 26]; // of a column: between pictures, at its sides, its head and numbers, a caption
const SECOND_LINE = 24; // of a narrow column's head
const [PHONE, LOW] = [600, 800]; // pixels: a page no wider, or less high, begins with the choice folded away

export class Top {
  constructor(screen) {
    this.screen = screen;
    this.folder = node('button', { type: 'button', class: 'plain-button not-in-talk', 'aria-controls': 'chips model-row', onclick: () => this.fold(!folded()) });
    this.asker = node('button', { type: 'button', class: 'plain-button only-in-talk', 'aria-controls': 'prompt-row', onclick: () => this.ask() });
    this.where = node('output', { class: 'field' });
    this.legend = new Legend();
    this.element = node('div', { class: 'compare-top' }, screen.words, node('span', { class: 'shown-in-talk only-in-talk' }, this.where, this.legend.element), this.folder, this.asker, talkButton(screen.element, screen.signal));
    this.fold(isPhone() || window.innerHeight < LOW);
    this.ask(false);
    this.listen();
  }

  listen() {
    const { element, signal } = this.screen;
    element.addEventListener(TALK_LEAVING, (event) => { if (asking()) { event.preventDefault(); this.ask(false); } });
    element.addEventListener(TALK_CHANGED, () => { if (!talking()) this.ask(false); });
    document.querySelector('#generate')?.addEventListener('click', () => this.ask(false), { signal });
    // Once the key is up again the prompt has been sent.
    document.querySelector('#prompt')?.addEventListener('keyup', ({ key }) => { if (key === 'Enter') this.ask(false); }, { signal });
  }

  // In talk mode: brings the prompt's row back for a new comparison, or puts it away.
  ask(wanted = !asking()) {
    const before = asking();
    document.body.classList.toggle('talk-prompt', wanted);
    this.asker.textContent = wanted ? 'Hide prompt' : 'New prompt';
    this.asker.title = `${wanted ? 'Back to the pictures alone (Escape, ' : 'A new comparison, without leaving talk mode ('}key P)`;
    this.asker.setAttribute('aria-expanded', String(wanted));
    if (wanted === before) return;
    this.screen.draw(); // the pictures have another room
    if (wanted) document.querySelector('#prompt :is(textarea, input)')?.select();
  }

  // Puts the choice of models and nouns away, so that the pictures are in sight, or brings it back.
  fold(wanted) {
    document.body.classList.toggle('setup-folded', wanted);
    this.folder.textContent = wanted ? 'Choose models' : 'Hide the choice';
    this.folder.setAttribute('aria-expanded', String(!wanted));
  }

  // What is shown, and on which scale.
  tell(limit) {
    const { controls: { stepName, stepText }, state } = this.screen;
    this.where.textContent = `${state.kind}, ${stepName.textContent.toLowerCase()}: ${stepText.textContent}`;
    this.legend.show(limit, state);
  }

  // Arrow keys in talk mode: left and right over the denoising steps, up and down over the words. Whether the key was one.
  walk(key) {
    const { screen } = this;
    const { first, state } = screen;
    if (!first) return false;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[key];
    if (!by) return false;
    if (key === 'ArrowLeft' || key === 'ArrowRight') state.step = Math.max(0, Math.min(Number(screen.controls.step.max), state.step + by));
    else {
      const words = first.words.length - 2; // without the tokens of start and end
      const [pinned] = [...state.pins].sort((a, b) => a - b);
      state.pins = new Set([(pinned + by + words) % words]);
      screen.writeWords();
    }
    screen.controls.changed();
    return true;
  }
}

export const isPhone = () => window.innerWidth <= PHONE;

const asking = () => document.body.classList.contains('talk-prompt');

const folded = () => document.body.classList.contains('setup-folded');

// Side of a picture in talk mode, such that as many of them as a column has fit below one another or in rows: the largest.
// `below` is the height of what stays in sight below the columns.
export function figureSize(grid, columns, figures, below) {
  if (!talking()) return 0;
  const wide = columnWidth(grid, columns) - PADDING;
  const high = window.innerHeight - grid.getBoundingClientRect().top - BESIDE - below - (isNarrow(grid, columns) ? SECOND_LINE : 0);
  const sizes = Array.from({ length: figures }, (_, at) => at + 1).map((across) => Math.min(
    (wide - (across - 1) * GAP) / across, high / Math.ceil(figures / across) - CAPTION));
  return Math.floor(Math.max(LEAST, ...sizes));
}
