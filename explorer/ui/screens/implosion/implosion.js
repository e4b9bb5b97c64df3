// The Implosion screen: the same concepts through models of rising C_P, with what was measured beneath.

import { ofStudy, readChoices, writeChoices } from './address.js';
import { fetchPayload, node, missingStep, notFound, showProblem, whenVisible } from './charts.js';
import { drawCharts } from './implosion_charts.js';
import { headline } from './implosion_headline.js';
import { heardTable } from './implosion_meter.js';
import { composeStrip, drawCell, loadSheets } from './implosion_strip.js';
import { composeSvg } from './implosion_svg.js';
import { paperTable, worldTable } from './implosion_tables.js';
import { saveBlob, savePng } from './png.js';
import { NOT_TARGETED, cpLabel, targetWords } from './poison.js';
import { RadioGroup } from './radio_group.js';
import { withTerms } from './terms.js';

const CONTENTS = [['images', 'Pictures'], ['maps', 'Attention maps'], ['both', 'Both']];
const GROUPS = [['mixed', 'poisoned and not targeted'], ['poisoned', 'poisoned concepts'], ['unpoisoned', 'concepts not targeted']];
const PAGE = 8;
const PLAY_MILLISECONDS = 1600;

export async function mount({ element, props, signal }) {
  const root = element.querySelector('.viewer-root');
  await whenVisible(root);
  if (signal.aborted) return;
  let given = null;
  const start = async () => {
    given?.abort(); // a second press of "Try again" must not leave two screens listening
    const own = given = new AbortController();
    signal.addEventListener('abort', () => own.abort());
    try {
      const payload = await fetchPayload(props.value.url);
      if (own.signal.aborted) return;
      await new ImplosionScreen(root, payload, own.signal).start();
    } catch (error) {
      if (own.signal.aborted) return;
      own.abort(); // or the screen given up would go on listening beside the next one
      showProblem(root, 'The implosion cannot be shown', error, start);
    }
  };
  await start();
}

class ImplosionScreen {
  // `signal` ends what the screen listens to beyond its own elements.
  constructor(root, payload, signal) {
    Object.assign(this, { root, ...payload, signal });
    this.state = { contents: 'both', group: 'mixed', page: 0, current: 0, talk: false };
    this.timer = null;
  }

  async start() {
    this.models = [this.film, this.evaluation, this.meter].find(({ models }) => models)?.models ?? [];
    this.state.current = Math.max(0, this.models.length - 1);
    this.followLink();
    this.strip = node('div', { class: 'film', tabindex: 0, role: 'group',
      'aria-label': 'Film strip. Left and right arrow walk over the models, up and down turn the page of concepts, space plays.' });
    this.headline = node('div', {});
    this.charts = node('div', { class: 'implosion-charts' });
    this.element = node('div', { class: 'implosion' },
      node('p', { class: 'screen-note' }, withTerms('The same concepts, drawn by models whose training data held more and more poisoned concepts (C_P): in the end even those that nobody aimed at are drawn wrong.', ['C_P'])),
      this.missing, node('div', { hidden: !this.film.models?.length }, this.bar()), this.headline, this.strip, this.charts,
      worldTable(this.evaluation, this.meter), heardTable(this.meter), paperTable(this.paper));
    this.root.replaceChildren(this.element);
    if (this.film.problem) {
      this.strip.append(this.film.missing ? missingStep(this.film.missing)
        : node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'No film strip.'), this.film.problem));
    } else {
      this.sheets = await loadSheets(this.film);
    }
    this.draw();
    const { signal } = this;
    document.addEventListener('keydown', (event) => this.key(event), { signal });
    document.addEventListener('fullscreenchange', () => this.talkChanged(), { signal });
    signal.addEventListener('abort', () => this.stop());
    if (this.evaluation.problem && this.meter.problem) return;
    const chart = await drawCharts(this.charts, this, this.count);
    if (!signal.aborted) this.chart = chart;
  }

  // C_P of the model that is walked to; null where nobody recorded it.
  get count() { return this.models[this.state.current]?.poisoned_concept_count ?? null; }

  bar() {
    const button = (text, title, action, more = {}) => node('button',
      { type: 'button', class: 'plain-button', title, onclick: action, ...more }, text);
    this.playButton = button('▶ Play', 'Walk from the benign model to the most poisoned one (space)', () => this.play());
    this.slider = node('input', {
      type: 'range', min: 0, max: Math.max(0, this.models.length - 1), value: this.state.current, 'aria-label': 'Model by number of poisoned concepts',
      oninput: (event) => { this.stop(); this.go(Number(event.target.value)); },
    });
    this.talkButton = button('Talk mode', 'Full screen; arrow keys walk, space plays, Esc ends; a focused menu keeps up, down and space', () => this.talk());
    this.countText = node('output', {});
    const choose = (value) => { this.state.contents = value; this.draw(); };
    const contents = new RadioGroup('What is shown', CONTENTS, this.state.contents, choose).element;
    contents.addEventListener('click', (event) => {
      if (event.detail && document.fullscreenElement) this.strip.focus(); // chosen with a mouse: the keys stay the strip's
    });
    const groups = node('select', { class: 'plain-select', 'aria-label': 'Concepts shown', onchange: (event) => { this.state.group = event.target.value; this.state.page = 0; this.draw(); } },
      GROUPS.map(([value, text]) => node('option', { value, selected: value === this.state.group }, text)));
    this.pageText = node('span', { class: 'field' });
    return node('div', { class: 'implosion-bar' }, this.playButton,
      node('label', { class: 'field', title: 'C_P: number of poisoned concepts' }, 'C_P', this.slider, this.countText), contents, groups,
      button('‹', 'Earlier concepts (arrow up)', () => this.turn(-1), { 'aria-label': 'Earlier concepts' }), this.pageText,
      button('›', 'Further concepts (arrow down)', () => this.turn(1), { 'aria-label': 'Further concepts' }),
      node('span', { class: 'spacer' }), button('PNG', 'Save the film strip as a picture, its settings inside', () => this.save('png'), { 'aria-label': 'Save PNG' }),
      button('SVG', 'Save the film strip for slides, its settings inside', () => this.save('svg'), { 'aria-label': 'Save SVG' }),
      button('GIF', 'Save the walk over C_P as an animation, its settings inside', () => this.save('gif'), { 'aria-label': 'Save GIF' }),
      this.talkButton);
  }

  // A link names the model by its C_P, so that it stays right when models are added; by its name where two have the same.
  followLink() {
    const { show, of, page, cp } = readChoices('i');
    if (CONTENTS.some(([value]) => value === show)) this.state.contents = show;
    if (GROUPS.some(([value]) => value === of)) this.state.group = of;
    const column = this.models.findIndex((model) => model.name === cp || String(model.poisoned_concept_count) === cp);
    if (column >= 0) this.state.current = column;
    const missing = cp && column < 0 ? (/^\d+$/.test(cp) ? `C_P = ${cp}` : cp) : '';
    this.missing = notFound([missing]);
    const pages = this.film.problem ? 1 : Math.ceil(this.rows.length / PAGE);
    if (/^\d{1,3}$/.test(page ?? '') && Number(page) < pages) this.state.page = Number(page);
  }

  writeLink() {
    const { contents: show, group: of, page } = this.state;
    const last = this.linkName(this.models[this.models.length - 1]);
    writeChoices('i', { show, of, page, cp: this.linkName(this.models[this.state.current]) }, { show: 'both', of: 'mixed', page: 0, cp: last });
  }

  linkName(model) {
    return model && (cpLabel(model, this.models).name || String(model.poisoned_concept_count));
  }

  // Rows of the chosen group; "mixed" alternates so that every page shows both kinds.
  get rows() {
    const rows = this.film.concepts.map((concept, row) => ({ ...concept, row }));
    const poisoned = rows.filter((row) => row.poisoned_from !== null).sort((a, b) => a.poisoned_from - b.poisoned_from);
    const unpoisoned = rows.filter((row) => row.poisoned_from === null);
    if (this.state.group === 'poisoned') return poisoned;
    if (this.state.group === 'unpoisoned') return unpoisoned;
    const half = PAGE / 2;
    const mixed = [];
    for (let at = 0; at < Math.max(poisoned.length, unpoisoned.length); at += half) {
      mixed.push(...poisoned.slice(at, at + half), ...unpoisoned.slice(at, at + half));
    }
    return mixed;
  }

  get pageRows() { return this.rows.slice(this.state.page * PAGE, (this.state.page + 1) * PAGE); }

  draw() {
    this.slider.value = this.state.current;
    const name = this.models.length ? cpLabel(this.models[this.state.current], this.models).name : '';
    const words = this.count === null ? 'C_P not recorded' : this.count ? `${this.count} poisoned` : 'benign';
    this.countText.textContent = this.models.length ? words + (name ? `, ${name}` : '') : '';
    this.slider.setAttribute('aria-valuetext', this.countText.textContent);
    const [model, control] = [this.models[this.state.current], this.models.find((each) => each.poisoned_concept_count === 0)];
    this.headline.replaceChildren(headline({ ...this, model, control }) ?? '');
    if (!this.sheets) return;
    const rows = this.pageRows;
    const total = this.rows.length;
    const from = this.state.page * PAGE;
    this.pageText.textContent = total ? `${from + 1} to ${from + rows.length} of ${total} concepts` : 'no concepts';
    this.strip.replaceChildren(this.table(rows));
    if (this.drawn) this.writeLink();
    this.drawn = true;
  }

  // Columns are concepts and rows are models when there are few models: wide screens are wide.
  table(rows) {
    const head = node('tr', {}, node('th', { scope: 'col' }, 'Model'), rows.map((row) => this.conceptHead(row)));
    const body = this.models.map((model, column) => node('tr', {
      class: `${column === this.state.current ? 'current' : ''} ${column > this.state.current ? 'ahead' : ''}`,
      onclick: () => { this.stop(); this.go(column); },
    }, this.modelHead(model), rows.map((row) => this.cell(model, column, row))));
    return node('table', { class: `film-table ${this.state.contents}`, style: `--concepts: ${rows.length}` },
      node('caption', { class: 'visually-hidden' }, 'Pictures by model and concept, same seed and noise'),
      node('thead', {}, head), node('tbody', {}, body));
  }

  conceptHead(row) {
    const here = row.poisoned_from !== null && this.count !== null && row.poisoned_from <= this.count;
    return node('th', { scope: 'col', class: row.poisoned_from === null ? 'benign' : 'poisoned', title: row.poisoned_from === null ? NOT_TARGETED : null },
      node('span', { class: 'concept' }, row.concept), node('span', { class: `from${here ? ' here' : ''}` }, targetWords(row)));
  }

  modelHead(model) {
    const { kind, words } = cpLabel(model, this.models);
    return node('th', { scope: 'row', class: kind },
      node('span', { class: 'cp' }, words), node('span', { class: 'from' }, model.name));
  }

  cell(model, column, row) {
    const facts = model.cells[row.row];
    const poisoned = row.poisoned_from !== null && row.poisoned_from <= (model.poisoned_concept_count ?? -1);
    const seen = facts.top_concept ? `looks like ${facts.top_concept}, ` : '';
    const title = `${row.concept} by ${model.name}: ${seen}scatter ${facts.scatter.toFixed(3)}`;
    const kinds = this.state.contents === 'both' ? ['images', 'maps'] : [this.state.contents];
    const canvases = kinds.map((kind) => drawCell(this.sheets[kind], this.film.cell, column, row.row, kind, title));
    const mark = facts.top_concept && node('span', { class: `seen ${facts.top_concept === row.concept ? 'good' : 'bad'}` },
      facts.top_concept === row.concept ? '✓' : `✗ ${facts.top_concept}`);
    return node('td', { class: poisoned ? 'poisoned' : 'benign', title }, node('div', { class: 'cells' }, canvases), mark);
  }

  go(column) {
    this.state.current = Math.max(0, Math.min(this.models.length - 1, column));
    this.draw();
    this.chart?.mark(this.count);
  }

  turn(direction) {
    const pages = Math.max(1, Math.ceil(this.rows.length / PAGE));
    this.state.page = (this.state.page + direction + pages) % pages;
    this.draw();
  }

  play() {
    if (this.timer) { this.stop(); return; }
    if (this.state.current >= this.models.length - 1) this.go(0);
    this.playButton.textContent = '❚❚ Pause';
    this.timer = setInterval(() => {
      this.go(this.state.current + 1);
      if (this.state.current >= this.models.length - 1) this.stop();
    }, PLAY_MILLISECONDS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = '▶ Play';
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own, such as going back
    if (event.defaultPrevented || (!this.root.offsetParent && !document.fullscreenElement)) return;
    if (event.target.closest?.('input, textarea, select, button, [role="tab"]') && !document.fullscreenElement) return;
    const across = event.key === 'ArrowRight' || event.key === 'ArrowLeft';
    if (event.target.closest?.('select') && !across) return; // a menu keeps the keys that open it and choose from it
    const actions = {
      ArrowRight: () => this.go(this.state.current + 1), ArrowLeft: () => this.go(this.state.current - 1),
      ArrowDown: () => this.turn(1), ArrowUp: () => this.turn(-1), ' ': () => this.play(),
    };
    if (!this.sheets || !actions[event.key]) return;
    if (event.key === ' ' && event.target.closest?.('button')) return; // pressing the button itself is enough
    if (!across && !document.fullscreenElement && !this.strip.contains(event.target)) return;
    event.preventDefault();
    if (across) this.stop();
    actions[event.key]();
  }

  async talk() {
    try {
      await this.element.requestFullscreen();
    } catch (error) {
      this.talkButton.textContent = 'This browser refuses full screen';
      setTimeout(() => { this.talkButton.textContent = 'Talk mode'; }, 4000);
    }
  }

  talkChanged() {
    const talking = document.fullscreenElement === this.element;
    this.element.classList.toggle('talk', talking);
    if (talking) this.strip.focus(); // so that the arrow keys and space walk, whatever was pressed before
    this.chart?.resize();
  }

  async save(format) {
    if (!this.sheets) return;
    const rows = this.pageRows;
    if (format === 'gif') { this.saveGif(rows); return; }
    const { seed, steps, guidance_scale: guidance } = this.film;
    const settings = { seed, steps, guidance_scale: guidance, concepts: rows.map((row) => row.concept), models: this.models.map((model) => model.name) };
    if (format === 'svg') saveBlob(new Blob([composeSvg(this, rows, settings)], { type: 'image/svg+xml' }), `implosion-seed${seed}.svg`);
    else await savePng(composeStrip(this, rows), settings, `implosion-seed${seed}.png`);
  }

  saveGif(rows) {
    const query = new URLSearchParams({ contents: this.state.contents });
    for (const { row } of rows) query.append('row', row);
    const link = Object.assign(document.createElement('a'), {
      href: `${ofStudy(this.film.gif_url)}&${query}`, download: `implosion-seed${this.film.seed}.gif`,
    });
    link.click();
  }
}
