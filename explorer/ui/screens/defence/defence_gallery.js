// The pairs themselves: those caught and missed, lost and spared, nearest to the cut first; and a few along the score.

import { count, node, number, select } from './charts.js';
import { borderlineFirst } from './defence_maths.js';
import { RadioGroup } from './radio_group.js';

const PAGE = 24;
const STRIP = 17;
const SIDE = 64;
const KNOWN = [['caught', 'Poison caught', 1, 1], ['missed', 'Poison missed', 1, 0], ['lost', 'Benign lost', 0, 1], ['kept', 'Benign kept', 0, 0]];
const OPEN = [['lost', 'Removed', null, 1], ['kept', 'Kept', null, 0]];
const UNRECORDED = [['unrecorded-lost', 'Not recorded, removed', 2, 1], ['unrecorded-kept', 'Not recorded, kept', 2, 0]];
const COMPARED = [['only-a', 'Only this filter removes', 'a'], ['only-b', 'Only B removes', 'b']];
const ORDERS = [['borderline', 'nearest to the cut first'], ['suspicious', 'most suspicious first'], ['trusted', 'least suspicious first']];

export class DefenceGallery {
  constructor(screen) {
    Object.assign(this, { screen, set: screen.set, view: screen.state.view });
    this.tabs = node('div', { class: 'gallery-tabs' });
    this.order = select('Order', ORDERS, this.view.order, (value) => { this.view.order = value; this.turn(0); });
    this.grid = node('div', { class: 'gallery-grid', role: 'group', 'aria-label': 'Pairs' });
    this.pager = node('div', { class: 'defence-bar pager' });
    this.strip = node('div', { class: 'score-strip', role: 'group', 'aria-label': 'Pairs along the score, the most suspicious first' });
    this.stripSection = node('section', { class: 'strip-section' }, node('h3', {}, 'Pairs along the score, the most suspicious first'), this.strip);
    this.element = node('section', { class: 'defence-gallery', 'aria-label': 'Galleries' }, node('div', { class: 'defence-bar' }, this.tabs, node('span', { class: 'spacer' }), this.order),
      screen.pictures.notice, this.grid, this.pager);
  }

  get galleries() {
    const { result } = this.screen;
    const known = this.view.truth ? [...KNOWN, ...(this.set.header.set.unrecorded ? UNRECORDED : [])] : OPEN;
    return result.against ? [...known, ...COMPARED] : known;
  }

  // Whether a row belongs into a gallery.
  holds([, , kind, goes]) {
    const { mask, against } = this.screen.result;
    if (kind === 'a') return (row) => mask[row] && !against[row];
    if (kind === 'b') return (row) => !mask[row] && against[row];
    return (row) => mask[row] === goes && (kind === null || this.set.kindOf[row] === kind);
  }

  size([name, , kind, goes]) {
    const { result } = this.screen;
    if (kind === 'a' || kind === 'b') return result.compared[name];
    const sizes = goes ? result.sizes.removed : result.sizes.kept;
    return kind === null ? sizes[0] + sizes[1] + sizes[2] : sizes[kind];
  }

  get chosen() { return this.galleries.find(([name]) => name === this.view.gallery) ?? this.galleries[0]; }

  // Sizes follow the slider; pictures come once it rests.
  showSizes() {
    const { galleries } = this;
    const names = galleries.map(([name]) => name).join();
    if (names !== this.names) {
      this.names = names;
      this.group = new RadioGroup('Gallery', galleries.map(([name, words]) => [name, words]), '', (name) => this.open(name));
      this.sizes = this.group.buttons.map(() => node('span', { class: 'figure' }));
      this.group.buttons.forEach((button, at) => button.append(' ', this.sizes[at]));
      this.tabs.replaceChildren(this.group.element);
    }
    this.group.show(this.chosen[0]);
    galleries.forEach((gallery, at) => { this.sizes[at].textContent = count(this.size(gallery)); });
  }

  open(name) {
    this.view.gallery = name;
    this.turn(0);
  }

  turn(page) {
    this.view.page = page;
    this.show();
    this.screen.settle();
  }

  // Rows of the open gallery in its order.
  rows() {
    const { ranking, result } = this.screen;
    const all = borderlineFirst(ranking, this.view.order === 'borderline' ? result.rank : 0);
    const rows = all.filter(this.holds(this.chosen));
    return this.view.order === 'trusted' ? rows.reverse() : rows;
  }

  show() {
    this.showSizes();
    this.listed = this.rows();
    const last = Math.max(0, Math.ceil(this.listed.length / PAGE) - 1);
    this.view.page = Math.min(this.view.page, last);
    const first = this.view.page * PAGE;
    const shown = this.listed.subarray(first, first + PAGE);
    this.grid.replaceChildren(...(shown.length ? Array.from(shown, (row) => this.card(row)) : [node('p', { class: 'note' }, 'No such pair.')]));
    const turn = (label, page, title) => node('button', { type: 'button', class: 'plain-button', disabled: page < 0 || page > last, onclick: () => this.turn(page), title, 'aria-label': title }, label);
    this.pager.replaceChildren(turn('‹', this.view.page - 1, 'Page before'),
      node('span', { class: 'note' }, this.listed.length ? `${count(first + 1)} to ${count(first + shown.length)} of ${count(this.listed.length)}` : ''), turn('›', this.view.page + 1, 'Next page'));
  }

  card(row) {
    const { score } = this.screen.state.active;
    const value = score ? number(this.set.values(score)[row], 3) : '';
    const caption = this.set.caption(row);
    return node('button', { type: 'button', class: 'pair-card', 'data-row': row, title: caption, 'aria-label': `${caption}; ${this.words(row)}${value ? `; score ${value}` : ''}`, onclick: () => this.screen.openPair(row) },
      this.screen.pictures.square(row, SIDE), node('span', { class: 'pair-caption' }, caption), node('span', { class: 'note figure' }, value));
  }

  words(row) {
    if (!this.view.truth) return this.screen.result.mask[row] ? 'goes' : 'stays';
    const kind = this.set.kind(row);
    return kind === 'poisoned' ? this.set.poisonWords(row) : kind === 'benign' ? 'benign' : 'poison not recorded';
  }

  // Pairs at even distances along the order, above the places they have on the slider.
  showStrip() {
    const { ranking } = this.screen;
    const { score } = this.screen.state.active;
    this.stripSection.hidden = !score;
    if (!score) return;
    const key = `${score} ${ranking.remove} ${this.view.truth}`;
    if (key !== this.drawnStrip) {
      this.drawnStrip = key;
      const last = ranking.order.length - 1;
      const places = [...new Set(Array.from({ length: STRIP }, (_, at) => Math.round((at * last) / (STRIP - 1))))];
      this.strip.replaceChildren(...(last < 0 ? [] : places.map((place) => {
        const row = ranking.order[place];
        return node('button', { type: 'button', class: 'strip-pair', 'data-row': row, 'data-place': place, onclick: () => this.screen.openPair(row) }, this.screen.pictures.square(row, 44), node('span', { class: 'note figure' }, number(ranking.values[row], 2)));
      })));
    }
    this.markStrip();
  }

  // What goes is marked, and said, at once.
  markStrip() {
    const { mask } = this.screen.result;
    for (const pair of this.strip.children) {
      const [row, place] = [Number(pair.dataset.row), Number(pair.dataset.place)];
      const [caption, words] = [this.set.caption(row), this.words(row)];
      pair.classList.toggle('goes', Boolean(mask[row]));
      pair.title = `${caption} (${words})`;
      pair.setAttribute('aria-label', `${caption}; ${words}; place ${count(place + 1)}`);
    }
  }
}
