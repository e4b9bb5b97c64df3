// The line above the columns, with the words of the prompt, and how the columns fit a projector in talk mode.

import { node } from './charts.js';
import { columnWidth, isNarrow } from './column_rows.js';
import { Legend } from './compare_legend.js';
import { talkButton, talking } from './talk.js';

const LEAST = 110; // pixels of a picture's side in talk mode
const [GAP, PADDING, BESIDE, CAPTION] = [8, 26, 150, 26]; // of a column: between pictures, at its sides, its head and numbers, a caption
const SECOND_LINE = 24; // of a narrow column's head
const [PHONE, LOW] = [600, 800]; // pixels: a page no wider, or less high, begins with the choice folded away

export class Top {
  constructor(screen) {
    this.screen = screen;
    this.folder = node('button', { type: 'button', class: 'plain-button not-in-talk', 'aria-controls': 'chips model-row', onclick: () => this.fold(!folded()) });
    this.where = node('output', { class: 'field' });
    this.legend = new Legend();
    this.element = node('div', { class: 'compare-top' }, screen.words, node('span', { class: 'shown-in-talk only-in-talk' }, this.where, this.legend.element), this.folder, talkButton(screen.element, screen.signal));
    this.fold(isPhone() || window.innerHeight < LOW);
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
