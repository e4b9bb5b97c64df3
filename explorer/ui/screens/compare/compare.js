// The Compare screen: models side by side. Everything after loading happens here, nothing is generated again.

import { keepChoices, replaceAddress, studyShown } from './address.js';
import { fetchPayload, missingStep, node } from './charts.js';
import { BlamePanel } from './blame_panel.js';
import { comparisonOf, readLink, readView } from './compare_address.js';
import { decodeColumn } from './maps.js';
import { fitColumns, replaceKeepingFocus, watchWidth } from './column_rows.js';
import { drawColumn, emptyColumn, scaleLimit } from './compare_column.js';
import { Controls } from './compare_controls.js';
import { ATTENTION, rowsOf } from './compare_kinds.js';
import { GraftPanel } from './compare_graft.js';
import { DRAWN, GivenPictures, GIVEN } from './compare_given.js';
import { SensitivityRequests } from './compare_sensitivity.js';
import { keepLive, keptLive } from './compare_kept.js';
import { Top, figureSize } from './compare_talk.js';
import { wordsOf } from './compare_words.js';
import { TALK_CHANGED, talking } from './talk.js';

const VIEW_KEYS = ['t', 'l', 'h', 'z', 'w', 'k', 'o', 'map', 'on', 'graft'];

export function mount({ element, props, watch, signal }) {
  const screen = new CompareScreen(element.querySelector('.viewer-root'), signal);
  const update = () => screen.show(props.value);
  watch('value', update);
  update();
}

class CompareScreen {
  // `signal` ends what the screen listens to beyond its own elements.
  constructor(root, signal) {
    this.root = root;
    this.signal = signal;
    this.columns = [];
    this.order = [];
    this.graftPlace = null;
    this.marks = [0, 0];
    this.loaded = new Map();
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.linked = readLink();
    this.state = this.linked ? readView('') : readView(location.search);
    this.words = node('div', { class: 'prompt-words', role: 'group', 'aria-label': 'Words of the prompt' });
    this.grid = node('div', { class: 'compare-grid' });
    this.given = new GivenPictures(this);
    this.controls = new Controls(this);
    this.requests = new SensitivityRequests(this);
    this.element = node('div', { class: 'compare' });
    this.top = new Top(this);
    this.graft = new GraftPanel(this);
    this.panel = new BlamePanel(() => {}, signal);
    this.element.append(this.top.element, this.controls.element, this.requests.element, this.grid, this.graft.element, this.panel.element);
    root.replaceChildren(this.element);
    this.element.addEventListener(TALK_CHANGED, () => this.draw());
    document.body.classList.remove('drawing-live', 'kept'); // for the study that was left
    document.addEventListener('keydown', (event) => this.key(event), { signal });
    window.addEventListener('resize', () => this.draw(), { signal });
    watchWidth(this.grid, signal, () => { if (this.columns.length) fitColumns(this.grid, this.shown.length, this.rows.length); });
  }

  async show(value) {
    if (value.study !== studyShown()) { this.tell('Loading…'); return; } // of the study that was left
    this.value = value;
    try {
      if (value.source) {
        if (this.live) return; // an answer about the address that comes after the first pictures
        if (this.linked && !value.link) { this.tell('Reading the link…'); return; }
        if (value.link?.state === 'unreadable') this.linked = null; // the status says why
        if (value.link?.state === 'undrawn') {
          if (!await this.showKept(value)) this.showUndrawn(value.link);
          return;
        }
        const payload = await fetchPayload(value.source);
        if (this.signal.aborted || (this.value !== value && this.value.live)) return;
        if (this.linked) this.linked.comparison = comparisonOf(payload.query); // in whichever words it was named
        this.leftOut = payload.left_out;
        this.adopt(payload.columns.map(decodeColumn), payload.query);
      } else if (value.live) {
        this.live = true;
        await this.showLive(value);
      }
    } catch (error) {
      this.problem(error);
    }
  }

  // Whether the pictures of the link were drawn in this tab, and the app still has them: then they are shown.
  async showKept(value) {
    const kept = keptLive(value.study, value.link.query);
    if (!kept) return false;
    try {
      await this.showLive({ ...kept, ended: true }, value);
      this.top.fold(true); // as it was when they were drawn
      setAsideNotice(this.signal);
      return true;
    } catch (error) { // they made room for others
      return false;
    }
  }

  // `asked` is the value that it is an answer to.
  async showLive(value, asked = value) {
    if (value.query !== this.query && !value.ended) this.top.fold(true);
    document.body.classList.toggle('drawing-live', !value.ended);
    if (!value.ended) document.body.classList.remove('kept');
    const columns = await Promise.all(value.columns.map(async (url, index) => {
      const model = value.models[index];
      if (!url) return { pending: true, model, ended: Boolean(value.ended), progress: value.progress?.model === model ? value.progress : null };
      if (!this.loaded.has(url)) this.loaded.set(url, fetchPayload(url).then((payload) => ({ ...decodeColumn(payload), token: tokenOf(url) })));
      return this.loaded.get(url).catch((error) => { this.loaded.delete(url); throw error; }); // the next update asks again
    }));
    if (this.signal.aborted || this.value !== asked) return;
    if (value.ended && value.columns.every(Boolean)) keepLive(value);
    for (const url of this.loaded.keys()) if (!value.columns.includes(url)) this.loaded.delete(url);
    this.adopt(columns, value.query);
    if (this.first) this.linked = null;
    replaceAddress(this.link());
  }

  // The comparison that the address names has no pictures yet: no others are shown in their place.
  showUndrawn({ query, prompt, models }) {
    this.linked.comparison = comparisonOf(query);
    this.tell('Not drawn yet', `“${prompt}”`);
    fitColumns(this.grid, models.length, 1);
    this.grid.replaceChildren(...models.map(({ name, missing }) => emptyColumn({
      model: name, note: missing ? 'Not found here, or broken (see Checkpoints).' : 'Press Generate to draw this picture.' })));
  }

  // Words in place of a comparison.
  tell(badge, words = '') {
    this.controls.fit(null);
    this.requests.element.replaceChildren();
    this.graft.element.hidden = true;
    this.words.replaceChildren(node('span', { class: 'origin' }, badge), words);
    this.grid.replaceChildren();
  }

  adopt(columns, query) {
    const before = this.first?.settings.prompt;
    if (query !== this.query || columns.length !== this.ownColumns.length) {
      this.order = columns.map((_, index) => index);
      this.graftPlace = null;
      this.marks = [0, Math.min(1, columns.length - 1)];
      this.given.forget();
    }
    this.order = this.setGraftAside(this.order, columns.length);
    this.keepMarks();
    if (this.columns.some((column) => column.graft)) this.graft.key = null; // it goes with them, and is drawn again
    this.columns = columns;
    this.query = query;
    this.state.hover = null; // the word under the pointer is about to be replaced, and never tells that it was left
    const first = this.first;
    const opened = first && this.linked?.comparison === comparisonOf(query);
    if (opened) {
      [this.state, this.linked] = [this.linked.view, null];
      const { order, graft } = this.state;
      if (isOrder(order, columns.length + (graft ? 1 : 0))) this.order = this.setGraftAside(order, columns.length);
      else if (isOrder(order, columns.length)) this.order = order; // of before a graft had a place of its own
    }
    if (first && (opened || before !== first.settings.prompt || !this.state.pins)) {
      const kept = this.state.linked?.filter((word) => word < first.words.length);
      this.state.pins = new Set(kept?.length ? kept : first.concept_words);
      this.state.linked = null;
    }
    this.controls.fit(first, columns.some((column) => column.pending && !column.ended));
    this.writeWords();
    this.draw();
  }

  // Of the pictures that are shown or, while none of them is there, of those drawn: words are the same.
  get first() {
    const made = (column) => !column.pending;
    return this.pictures.find(made) ?? this.columns.find(made);
  }

  get pictures() { return this.state.on === GIVEN ? this.given.of(this.columns) : this.columns; }

  // Those of the models, without a graft's.
  get ownColumns() { return this.columns.filter((column) => !column.graft); }

  get shown() {
    const { pictures } = this;
    return this.order.map((index) => pictures[index]);
  }

  get rows() {
    const pinned = [...(this.state.pins ?? [])].sort((a, b) => a - b);
    const { hover, kind } = this.state;
    if (hover === null || pinned.includes(hover)) return rowsOf(kind, pinned);
    return rowsOf(kind, pinned.length ? [hover, ...pinned.slice(1)] : [hover]);
  }

  writeWords() {
    this.words.style.minHeight = this.first ? '' : `${this.words.offsetHeight}px`; // the words come back with the first picture
    this.words.replaceChildren(...wordsOf(this));
    this.words.firstChild?.classList.toggle('live', this.first.origin === 'live');
  }

  draw() {
    const first = this.first;
    const columns = this.shown;
    if (!columns.length) return;
    const { rows } = this;
    const context = { state: this.state, first, reference: columns[0].pending ? null : columns[0], told: new Set() };
    const limit = first ? scaleLimit(columns, rows, context) : 0;
    this.top.tell(limit);
    this.requests.show();
    fitColumns(this.grid, columns.length, rows.length);
    this.grid.style.setProperty('--figure', `${figureSize(this.grid, columns.length, 1 + rows.length, this.graft.element.offsetHeight)}px`);
    const articles = columns.map((column, place) => (column.pending
      ? emptyColumn(column)
      : drawColumn({ column, rows, limit, context, place, screen: this })));
    replaceKeepingFocus(this.grid, articles);
    this.limit = limit;
    this.controls.legend.show(limit, this.state);
    this.graft.show();
  }

  picturesChanged() {
    this.controls.fit(this.first);
    this.changed();
  }

  // The order of the models' columns alone: a graft's is drawn anew, and comes back to its place.
  setGraftAside(order, count) {
    const place = order.indexOf(count);
    if (place >= 0) this.graftPlace = place;
    return order.filter((at) => at < count);
  }

  // A mark does not stay on a column that is gone.
  keepMarks() {
    if (Math.max(...this.marks) >= this.order.length) this.marks = [0, 1];
  }

  // A graft of two of the models as one more column, in the place of the last one; null takes it away.
  showGraft(column) {
    const own = this.ownColumns;
    const place = this.order.indexOf(own.length);
    if (!column && place < 0) return;
    this.columns = column ? [...own, column] : own;
    if (place < 0) this.order.splice(this.graftPlace ?? own.length, 0, own.length);
    if (!column) this.order = this.setGraftAside(this.order, own.length);
    this.keepMarks();
    this.picturesChanged();
  }

  // Another kind of map changes what the words are for, and the layers that can be chosen.
  kindChanged() {
    this.controls.fit(this.first);
    this.writeWords();
    this.changed();
  }

  changed() {
    this.draw();
    replaceAddress(this.link());
  }

  link() {
    const query = new URLSearchParams(this.query ?? location.search);
    keepChoices(query);
    VIEW_KEYS.forEach((key) => query.delete(key));
    const { kind, on, step, stack, layer, head, scale, view, pins } = this.state;
    if (kind !== ATTENTION) query.set('map', kind);
    if (on !== DRAWN) query.set('on', on);
    if (step) query.set('t', step);
    if (stack || layer) query.set('l', `${stack}.${layer}`);
    if (head) query.set('h', head);
    if (scale !== 'absolute') query.set('z', scale);
    if (view !== 'map') query.set('w', view);
    if (this.graft.linked) query.set('graft', this.graft.linked);
    const order = [...this.order]; // a graft's column is the one after the models', and keeps its place while it is drawn
    const count = this.ownColumns.length;
    if (this.graft.linked && !order.includes(count)) order.splice(this.graftPlace ?? count, 0, count);
    if (order.some((column, place) => column !== place)) query.set('o', order.join('.'));
    if (pins && String([...pins]) !== String(this.first?.concept_words)) query.set('k', [...pins].join('.'));
    return `${location.pathname}?${query}`;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.root.offsetParent) return;
    if (event.target.closest?.('input, textarea, select, [contenteditable]')) return;
    if (event.key.toLowerCase() === 'a' || event.key.toLowerCase() === 'b') this.swap();
    if (event.key.toLowerCase() === 'm' && this.first) this.controls.nextKind();
    if (event.key.toLowerCase() === 'p' && talking()) { event.preventDefault(); this.top.ask(); }
    if (talking() && !event.defaultPrevented && this.top.walk(event.key)) event.preventDefault();
  }

  swap() {
    const [first, second] = this.marks;
    if (this.order.length < 2) return;
    [this.order[first], this.order[second]] = [this.order[second], this.order[first]];
    this.changed();
  }

  mark(place) {
    if (this.marks.includes(place)) return;
    this.marks = [this.marks[0], place];
    this.draw();
  }

  zoomBy(factor, x = 0.5, y = 0.5) {
    const scale = Math.max(1, Math.min(8, this.zoom.scale * factor));
    const change = scale / this.zoom.scale;
    this.moveTo(x - (x - this.zoom.x) * change, y - (y - this.zoom.y) * change, scale);
  }

  // Where the pictures' top left corner lies, in shares of their frame; they always fill it.
  moveTo(x, y, scale = this.zoom.scale) {
    const clamp = (value) => Math.max(1 - scale, Math.min(0, value));
    this.zoom = { scale, x: clamp(x), y: clamp(y) };
    this.draw();
  }

  problem(error) {
    if (this.signal.aborted) return;
    this.grid.replaceChildren(error.missing ? missingStep({ ...error.missing, cost: 'Or press Generate: two to four models draw at once, and nothing is kept.' }) : node('div', { class: 'measure-problem', role: 'alert' },
      node('h3', {}, 'There is no comparison to show yet'), node('p', {}, error.message),
      node('p', {}, 'Press Generate to make one live.')));
    this.controls.fit(null);
    this.requests.element.replaceChildren();
    this.graft.element.hidden = true;
    this.words.replaceChildren();
  }
}

// What the server says of a link, that its pictures are to be drawn, until they are drawn again.
function setAsideNotice(signal) {
  document.body.classList.add('kept');
  const bringBack = ({ type, key }) => { if (type === 'click' || key === 'Enter') document.body.classList.remove('kept'); };
  document.querySelector('#generate')?.addEventListener('click', bringBack, { signal });
  document.querySelector('#prompt')?.addEventListener('keydown', bringBack, { signal });
}

// The name of a live result within its address.
const tokenOf = (url) => url.split('/').pop().replace(/\.json$/, '');

const isOrder = (order, count) => order?.length === count && order.every((_, place) => order.includes(place));
