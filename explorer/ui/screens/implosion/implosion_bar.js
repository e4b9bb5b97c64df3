// The bar above the film strip: walking over the models, what is shown, of which concepts, and saving it.

import { node } from './charts.js';
import { RANDOM_SEEDS, groupsOf, nearestNames } from './implosion_choice.js';
import { contentsOf, kindsOf } from './implosion_film.js';
import { KINDS } from './implosion_strip.js';
import { cpLabel } from './poison.js';
import { talkButton, talking } from './talk.js';

const button = (text, title, action, more = {}) => node('button', { type: 'button', class: 'plain-button', title, onclick: action, ...more }, text);

export class Bar {
  constructor(screen) {
    this.screen = screen;
    const { state, models } = screen;
    this.playButton = button('▶ Play', 'Walk from the benign model to the most poisoned one (space)', () => screen.play());
    this.slider = node('input', {
      type: 'range', min: 0, max: Math.max(0, models.length - 1), value: state.current, 'aria-label': 'Model by number of poisoned concepts',
      oninput: (event) => { screen.stop(); screen.go(Number(event.target.value)); },
    });
    this.countText = node('output', {});
    this.pageText = node('span', { class: 'field page-text' });
    this.element = node('div', { class: 'implosion-bar' }, this.playButton,
      node('label', { class: 'field', title: 'C_P: number of poisoned concepts' }, 'C_P', this.slider, this.countText), this.kinds(), this.groups(),
      button('‹', 'Earlier concepts (arrow up)', () => screen.turn(-1), { 'aria-label': 'Earlier concepts' }), this.pageText,
      button('›', 'Further concepts (arrow down)', () => screen.turn(1), { 'aria-label': 'Further concepts' }),
      node('span', { class: 'spacer' }), this.exports(), talkButton(screen.element, screen.signal), this.unknown);
  }

  // What is shown of each cell: any of its kinds, and at least one.
  kinds() {
    const { film, state } = this.screen;
    this.toggles = KINDS.map(([kind, text]) => button(text, '', (event) => {
      if (!film.sheets[kind]) { this.unknown.textContent = `No guidance maps: ${film.no_guidance}.`; return; }
      const shown = kindsOf(state.contents);
      const kinds = shown.includes(kind) ? shown.filter((each) => each !== kind) : [...shown, kind];
      if (kinds.length) this.screen.choose({ contents: contentsOf(kinds) });
      if (event.detail && talking()) this.screen.strip.focus(); // chosen with a mouse: the keys stay the strip's
    }, { 'data-kind': kind, 'aria-disabled': film.sheets[kind] ? null : 'true' }));
    return node('span', { class: 'segments', role: 'group', 'aria-label': 'What is shown' }, this.toggles);
  }

  groups() {
    const { screen } = this;
    const { film, meter, state } = screen;
    const groups = groupsOf(film, meter);
    this.shuffle = button('Another draw', 'Draw other concepts; the seed is in the address', () => screen.choose({ seed: (state.seed + 1) % RANDOM_SEEDS, from: 0 }));
    this.words = node('input', {
      type: 'text', class: 'plain-input', list: 'strip-concepts', placeholder: `some of ${film.concepts.length}`, 'aria-describedby': 'unknown-words', 'aria-label': 'Concepts, with commas between',
      value: state.words.join(', '), onchange: (event) => this.readWords(event.target),
    });
    this.unknown = node('p', { class: 'unknown-words', role: 'status', id: 'unknown-words' });
    this.menu = node('select', { class: 'plain-select', 'aria-label': 'Concepts shown', onchange: (event) => this.chooseGroup(event.target.value) },
      groups.map(([value, text]) => node('option', { value, selected: value === state.of }, text)));
    return [this.menu, this.shuffle, this.words, node('datalist', { id: 'strip-concepts' }, film.concepts.map(({ concept }) => node('option', { value: concept })))];
  }

  // Chosen concepts begin with those in sight, which may then be changed.
  chooseGroup(of) {
    const { screen } = this;
    const begin = of === 'chosen' && !screen.state.words.length;
    if (begin) screen.state.words = screen.pageRows.map(({ concept }) => concept);
    this.words.value = screen.state.words.join(', ');
    this.tellUnknown([]);
    screen.choose({ of, from: 0 });
  }

  // Shows those of the words that the strip has, and says which it has not.
  readWords(field) {
    const names = this.screen.film.concepts.map(({ concept }) => concept);
    const words = [...new Set(field.value.split(',').map((word) => word.trim()).filter(Boolean))];
    const known = words.filter((word) => names.includes(word));
    this.tellUnknown(words.filter((word) => !names.includes(word)), names);
    this.screen.choose(known.length || !words.length ? { words: known, from: 0 } : {});
  }

  tellUnknown(words, names) {
    const near = (word) => { const found = nearestNames(word, names); return found.length ? ` (${found.join(', ')}?)` : ''; };
    this.unknown.textContent = words.length ? `Not in the strip: ${words.map((word) => word + near(word)).join(', ')}` : '';
    this.words.setAttribute('aria-invalid', String(words.length > 0));
  }

  exports() {
    const { screen } = this;
    const made = (text, title) => button(text, title, () => screen.save(text.toLowerCase()), { 'aria-label': `Save ${text}` });
    return node('span', { class: 'segments not-in-talk', role: 'group', 'aria-label': 'Save the film strip' },
      made('PNG', 'Save the film strip as a picture, its settings inside'), made('SVG', 'Save the film strip for slides, its settings inside'),
      made('GIF', 'Save the walk over C_P as an animation, its settings inside'),
      made('JSON', 'Save settings, what is known of the models, and what the judge says of the pictures shown'));
  }

  // After a change: where the walk is, and what belongs to the choice. The bar's height, and so the pictures', depends on it.
  follow() {
    const { state, models, count } = this.screen;
    this.slider.value = state.current;
    for (const toggle of this.toggles) toggle.setAttribute('aria-pressed', String(kindsOf(state.contents).includes(toggle.dataset.kind)));
    if (models.length) {
      const { words, name } = cpLabel(models[state.current], models);
      this.countText.textContent = [count ? `${count} poisoned` : words, name].filter(Boolean).join(', ');
    }
    this.slider.setAttribute('aria-valuetext', this.countText.textContent);
    this.menu.value = state.of;
    this.shuffle.hidden = state.of !== 'random';
    this.shuffle.textContent = `Another draw (seed ${state.seed})`;
    this.words.hidden = state.of !== 'chosen';
  }

  // Which of the `total` concepts are in sight.
  tell(rows, total, room) {
    const { state, models } = this.screen;
    const hidden = models.length > room.rows ? `; ${room.rows} of ${models.length} models at once` : '';
    this.pageText.textContent = (total ? `${state.from + 1} to ${state.from + rows.length} of ${total} concepts` : 'no concepts') + hidden;
  }
}
