// The Implosion screen: the same concepts through models of rising C_P, with what was measured beneath.

import { CHOICES_PROPOSED, joinNames, ofStudy, readChoices, splitNames, writeChoices } from './address.js';
import { BlamePanel } from './blame_panel.js';
import { download, fetchPayload, node, missingStep, notFound, whenVisible } from './charts.js';
import { Bar } from './implosion_bar.js';
import { drawCharts } from './implosion_charts.js';
import { RANDOM_SEEDS, groupsOf, onPage, orderOf } from './implosion_choice.js';
import { contentsOf, filmTable, kindsOf, roomFor, surenessOf } from './implosion_film.js';
import { headline } from './implosion_headline.js';
import { legend } from './implosion_legend.js';
import { heardTable } from './implosion_meter.js';
import { drawStrip } from './implosion_picture.js';
import { stripFacts, stripSettings } from './implosion_saved.js';
import { loadSheets } from './implosion_strip.js';
import { composeSvg } from './implosion_svg.js';
import { besidePaper, paperTables, poisonedBase } from './implosion_paper.js';
import { worldTable } from './implosion_tables.js';
import { saveBlob, savePng } from './png.js';
import { controlOf, cpLabel, mostPoisoned } from './poison.js';
import { restartable } from './restarting.js';
import { TALK_CHANGED, talking } from './talk.js';
import { withTerms } from './terms.js';

const NOTE = 'The same concepts, drawn by models in the order of how many were poisoned in their training data (C_P). With many of them poisoned, even concepts that nobody aimed at can be drawn wrong: that is implosion.';
const PLAY_MILLISECONDS = 1600;
const USUAL = { contents: 'images-maps', of: 'mixed', from: 0, seed: 0 };
const SIDE = { usual: 112, phone: 92 }; // of the names of the models, as in implosion.css
const PHONE = '(max-width: 600px)'; // as in implosion.css
const BELOW = 8; // room that the page keeps under the strip

export async function mount({ element, props, signal: mounted }) {
  const root = element.querySelector('.viewer-root');
  await whenVisible(root);
  await restartable(root, 'The implosion cannot be shown', mounted, async (signal) => {
    const payload = await fetchPayload(props.value.url);
    signal.throwIfAborted();
    await new ImplosionScreen(root, payload, signal).start();
  })();
}

class ImplosionScreen {
  // `signal` ends what the screen listens to beyond its own elements.
  constructor(root, payload, signal) {
    Object.assign(this, { root, ...payload, signal });
    this.state = { ...USUAL, words: [], current: 0, blamed: [] };
    this.timer = null;
  }

  async start() {
    this.models = [this.film, this.evaluation, this.meter].find(({ models }) => models)?.models ?? [];
    this.tau = this.film.tau ?? this.evaluation.tau ?? null;
    this.sure = surenessOf(this.film, this.tau);
    this.first = this.state.current = mostPoisoned(this.models);
    this.followLink();
    this.layOut();
    this.listen();
    if (!this.film.problem) this.sheets = await loadSheets(this.film);
    this.draw();
    if (this.state.blamed.length) this.panel.open(...this.state.blamed);
    if (this.evaluation.problem && this.meter.problem) return;
    this.chart = await drawCharts(this.charts, this, this.count, this.signal);
  }

  layOut() {
    this.strip = node('div', { class: 'film', tabindex: 0, role: 'group',
      'aria-label': 'Film strip. Left and right arrow walk over the models, up and down turn the page of concepts, space plays.' });
    this.whatRuns = runsNote(this.runs);
    this.verdicts = node('p', { class: 'verdicts' }, this.whatRuns);
    this.headline = node('div', {});
    this.charts = node('div', { class: 'implosion-charts not-in-talk' });
    this.panel = new BlamePanel(() => this.unblame(), this.signal);
    this.element = node('div', { class: 'implosion' });
    this.bar = this.film.problem ? null : new Bar(this);
    this.element.append(
      node('p', { class: 'screen-note not-in-talk' }, withTerms(NOTE, ['C_P', 'implosion'])),
      ...(this.missing ? [this.missing] : []), ...(this.bar ? [this.bar.element] : []), this.headline, this.strip, this.verdicts, this.charts,
      node('div', { class: 'implosion-tables not-in-talk' }, worldTable(this.evaluation, this.meter), heardTable(this.meter), besidePaper(this.beside_paper), poisonedBase(this.poisoned_base), paperTables(this.paper, this.beside_paper)), this.panel.element);
    this.root.replaceChildren(this.element);
    this.arrange();
    if (!this.film.problem) return;
    this.strip.append(this.film.missing ? missingStep(this.film.missing)
      : node('div', { class: 'notice error', role: 'alert' }, node('strong', {}, 'No film strip.'), this.film.problem));
  }

  // On a phone the pictures come before what changes them: for the keyboard and for who listens to the page, too, so that
  // the elements themselves are moved.
  arrange() {
    const pictures = [this.strip, this.verdicts];
    const phone = matchMedia(PHONE).matches && !talking();
    const next = phone ? this.bar?.element ?? this.headline : this.charts;
    if (this.verdicts.nextElementSibling === next) return;
    const focused = document.activeElement; // which the browser forgets when its element is moved
    next.before(...pictures);
    if (pictures.some((each) => each.contains(focused))) focused.focus();
  }

  listen() {
    const { signal } = this;
    document.addEventListener('keydown', (event) => this.key(event), { signal });
    window.addEventListener('resize', () => { this.arrange(); this.draw(); }, { signal });
    window.addEventListener(CHOICES_PROPOSED, async ({ detail }) => {
      if (detail !== 'i' || !this.bar) return;
      await whenVisible(this.strip); // the tab may only be about to open
      if (signal.aborted) return;
      this.followChoice();
      this.draw();
    }, { signal });
    this.element.addEventListener(TALK_CHANGED, () => this.talkChanged());
    signal.addEventListener('abort', () => this.stop());
  }

  // C_P of the model that is walked to; null where nobody recorded it.
  get count() { return this.models[this.state.current]?.poisoned_concept_count ?? null; }

  // A link names the model by its C_P, so that it stays right when models are added; by its name where two have the same.
  followLink() {
    const { show, cp, seed, words, blamed } = readChoices('i');
    const asked = kindsOf(show === 'both' ? USUAL.contents : show ?? ''); // as links of earlier releases have it
    const column = this.models.findIndex((model) => model.name === cp || String(model.poisoned_concept_count) === cp);
    if (column >= 0) this.state.current = column;
    const missing = [cp && column < 0 ? (/^\d+$/.test(cp) ? `C_P = ${cp}` : cp) : ''];
    if (!this.film.problem) {
      this.state.contents = contentsOf(asked.filter((kind) => this.film.sheets[kind])) || USUAL.contents;
      if (asked.includes('guidance') && !this.film.sheets.guidance) missing.push('guidance maps');
      if (/^\d{1,3}$/.test(seed ?? '')) this.state.seed = Number(seed) % RANDOM_SEEDS;
      const named = words ? splitNames(words) : [];
      this.state.words = named.filter((word) => this.film.concepts.some(({ concept }) => concept === word));
      missing.push(...named.filter((word) => !this.state.words.includes(word)));
      const [arm, concept] = blamed ? splitNames(blamed) : [];
      const known = this.models.some(({ name }) => name === arm) && this.film.concepts.some((each) => each.concept === concept);
      if (known) this.state.blamed = [arm, concept];
      else missing.push(blamed);
      this.followChoice();
    }
    this.missing = notFound(missing);
  }

  // Which concepts the address chooses, and where the page of them begins; what this study does not offer changes nothing.
  followChoice() {
    const { of = USUAL.of, from } = readChoices('i');
    if (!this.offers(of)) return;
    this.state.of = of;
    this.state.from = /^\d{1,5}$/.test(from ?? '') && Number(from) < this.rows.length ? Number(from) : USUAL.from;
  }

  // Whether this study's concepts can be chosen so.
  offers(of) { return groupsOf(this.film, this.meter).some(([value]) => value === of); }

  writeLink() {
    const { contents: show, of, from, seed, words, blamed } = this.state;
    writeChoices('i', { show, of, from, seed: of === 'random' ? seed : 0, words: of === 'chosen' ? joinNames(words) : '', cp: this.linkName(this.models[this.state.current]), blamed: joinNames(blamed) },
      { show: USUAL.contents, of: USUAL.of, from: 0, seed: 0, words: '', cp: this.linkName(this.models[this.first]), blamed: '' });
  }

  linkName(model) {
    return model && (cpLabel(model, this.models).name || String(model.poisoned_concept_count));
  }

  get rows() { return orderOf(this.film, this.meter, this.state); }

  get room() {
    const place = this.strip.getBoundingClientRect();
    const height = window.innerHeight - place.top - this.verdicts.offsetHeight - BELOW;
    const phone = matchMedia(PHONE).matches;
    return roomFor({ width: this.strip.clientWidth, height, left: SIDE[phone ? 'phone' : 'usual'], models: this.models.length, contents: this.state.contents, talk: talking(), phone });
  }

  get pageRows() { return onPage(this.rows.slice(this.state.from, this.state.from + this.room.concepts), this.state.of); }

  draw() {
    const [model, control] = [this.models[this.state.current], controlOf(this.models)];
    this.headline.replaceChildren(headline({ ...this, model, control }) ?? '');
    if (!this.sheets || !this.strip.clientWidth) return; // a screen out of sight has no size
    this.verdicts.replaceChildren(...legend(this), ' ', this.whatRuns);
    this.bar.follow();
    const { room, pageRows } = this;
    this.bar.tell(pageRows, this.rows.length, room);
    this.strip.replaceChildren(pageRows.length ? filmTable(this, pageRows, room, (column) => { this.stop(); this.go(column); }) : nothingChosen(this.film));
    if (this.drawn) this.writeLink();
    this.drawn = true;
  }

  // Takes part of the state anew.
  choose(changes) {
    Object.assign(this.state, changes);
    this.draw();
  }

  go(column) {
    this.state.current = Math.max(0, Math.min(this.models.length - 1, column));
    this.draw();
    this.chart?.mark(this.count);
  }

  // Opens what is blamed for a picture; the row's own click walks to its model.
  blame(model, concept) {
    this.state.blamed = [model.name, concept];
    this.panel.open(model.name, concept);
  }

  unblame() {
    this.state.blamed = [];
    this.writeLink();
    this.strip.focus(); // the picture that was clicked has been drawn anew
  }

  // Another page of concepts; from the last one on to the first.
  turn(direction) {
    const { concepts } = this.room;
    const total = this.rows.length;
    const last = Math.max(0, Math.floor((total - 1) / concepts) * concepts);
    const next = this.state.from + direction * concepts;
    this.choose({ from: next >= total ? 0 : next < 0 ? (this.state.from > 0 ? 0 : last) : next });
  }

  play() {
    if (this.timer) { this.stop(); return; }
    if (this.state.current >= this.first) this.go(0);
    this.bar.playButton.textContent = '❚❚ Pause';
    this.timer = setInterval(() => {
      this.go(this.state.current + 1);
      if (this.state.current >= this.first) this.stop(); // those after it have no place on the walk
    }, PLAY_MILLISECONDS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    if (this.bar) this.bar.playButton.textContent = '▶ Play';
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own, such as going back
    if (event.defaultPrevented || !this.root.offsetParent || !this.sheets) return;
    if (event.target.closest?.('input, textarea') || (event.target.closest?.('select, button, [role="tab"]') && !talking())) return;
    const across = event.key === 'ArrowRight' || event.key === 'ArrowLeft';
    if (event.target.closest?.('select') && !across) return; // a menu keeps the keys that open it and choose from it
    const actions = {
      ArrowRight: () => this.go(this.state.current + 1), ArrowLeft: () => this.go(this.state.current - 1),
      ArrowDown: () => this.turn(1), ArrowUp: () => this.turn(-1), ' ': () => this.play(),
    };
    if (!actions[event.key]) return;
    if (event.key === ' ' && event.target.closest?.('button')) return; // pressing the button itself is enough
    if (!across && !talking() && !this.strip.contains(event.target)) return;
    event.preventDefault();
    if (across) this.stop();
    actions[event.key]();
  }

  talkChanged() {
    this.arrange();
    this.draw();
    if (talking()) this.strip.focus(); // so that the arrow keys and space walk, whatever was pressed before
    else this.chart?.resize();
  }

  async save(format) {
    const rows = this.pageRows;
    if (format === 'gif') { this.saveGif(rows); return; }
    const { seed } = this.film;
    const settings = stripSettings(this, rows);
    if (format === 'json') download(`implosion-seed${seed}.json`, stripFacts(this, rows));
    else if (format === 'svg') saveBlob(new Blob([composeSvg(this, rows, settings)], { type: 'image/svg+xml' }), `implosion-seed${seed}.svg`);
    else await savePng(drawStrip(this, rows), settings, `implosion-seed${seed}.png`);
  }

  saveGif(rows) {
    const query = new URLSearchParams({ kinds: this.state.contents, theme: document.body.classList.contains('dark') ? 'dark' : 'light' });
    for (const { row } of rows) query.append('row', row);
    const link = Object.assign(document.createElement('a'), {
      href: `${ofStudy(this.film.gif_url)}&${query}`, download: `implosion-seed${this.film.seed}.gif`,
    });
    link.click();
  }
}

// Whether what is shown was tuned on these concepts, and what further training runs give.
function runsNote({ told, lacking, problem }) {
  return node('span', { class: 'what-runs' }, [told, lacking && `${lacking[0].toUpperCase()}${lacking.slice(1)}.`, problem].filter(Boolean).join(' '));
}

function nothingChosen({ concepts }) {
  const [first, second] = [concepts[0], concepts[concepts.length - 1]];
  return node('p', { class: 'nothing-chosen' }, `No concepts are chosen. Type nouns of the strip into the field “some of ${concepts.length}”, with commas between, such as “${first.concept}, ${second.concept}”.`);
}
