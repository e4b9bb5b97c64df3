// Buttons of which one is chosen, by the WAI-ARIA radio group pattern: one tab stop, arrow keys move and choose.

import { node } from './charts.js';

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export class RadioGroup {
  // `entries`: [value, text, title]; `choose(value)` is called for every choice a person makes.
  constructor(label, entries, chosen, choose) {
    this.choose = choose;
    this.buttons = entries.map(([value, text, title]) => node('button', {
      type: 'button', class: 'plain-button', role: 'radio', 'data-value': value, title, onclick: () => this.pick(value),
    }, text));
    this.element = node('span', {
      class: 'segments', role: 'radiogroup', 'aria-label': label, onkeydown: (event) => this.key(event),
    }, this.buttons);
    this.show(chosen);
  }

  show(chosen) {
    for (const button of this.buttons) {
      const checked = button.dataset.value === chosen;
      button.setAttribute('aria-checked', String(checked));
      button.tabIndex = checked ? 0 : -1;
    }
  }

  pick(value) {
    this.show(value);
    this.choose(value);
  }

  key(event) {
    const move = MOVES[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    event.preventDefault();
    const { length } = this.buttons;
    const next = this.buttons[(this.buttons.indexOf(event.target) + move + length) % length];
    next.focus();
    this.pick(next.dataset.value);
  }
}
