// The Graphs screen: the text graph and the image graph of a set of pairs, and a table of them; one selection in all.

import { LONGEST_LINK, readChoices, writeChoices } from './address.js';
import { count, fetchPayload, node, notFound, onThemeChange, theme, whenVisible } from './charts.js';
import { paint, renderLegend } from './graph_colours.js';
import { loadPairs, SIDES } from './graph_data.js';
import { describe, renderInspector, selectionWords } from './graph_inspector.js';
import { GraphPlot } from './graph_plot.js';
import { decodeRows, encodeRows, NO_FILTER, Selection } from './graph_selection.js';
import { PairTable } from './graph_table.js';
import { GraphToolbar, SelectionBar, followFilters } from './graph_controls.js';
import { poisonWords } from './poison.js';
import { restartable } from './restarting.js';
import { withTerms } from './terms.js';

const SVG = 'http://www.w3.org/2000/svg';
const LINE_LIMIT = 400;
const DEFAULTS = { set: '', colour: 'kind', concept: '', pair: '', rows: '', undrawn: '', text: '', in: '', only: '', score: '', low: '', high: '' };
const TITLES = { text: 'Text graph: near captions', image: 'Image graph: near pictures' };

const NOTE = 'Every point is a training pair, a caption with its picture: on the left captions that mean alike lie together, on the right pictures that look alike. Poison stands in other company on one side than on the other, which D_s measures.';

const capitalised = (words) => words[0].toUpperCase() + words.slice(1);

export async function mount({ element, props, signal: mounted }) {
  const root = element.querySelector('.viewer-root');
  await whenVisible(root);
  const start = restartable(root, 'The graphs cannot be shown', mounted, async (signal, name) => {
    if (name) writeChoices('g', { ...DEFAULTS, set: name }, DEFAULTS); // what was chosen is of other pairs
    const { sets } = await fetchPayload(props.value.url);
    const asked = name ?? readChoices('g').set;
    const set = sets.find((known) => known.name === asked) ?? sets.at(-1);
    const data = await loadPairs(set);
    signal.throwIfAborted();
    performance.mark('graphs-there');
    new GraphsScreen(root, sets, data, asked && set.name !== asked ? asked : '', start, signal).start();
  });
  await start();
}

class GraphsScreen {
  constructor(root, sets, data, missingSet, open, signal) {
    Object.assign(this, { root, sets, data, open, signal });
    this.state = { colouring: 'kind', focus: '', edges: true, lines: true, thumbnails: true, together: true, drag: 'pan', inspected: null };
    this.selection = new Selection(data);
    this.followLink(missingSet);
    // The rarer kind lies on top.
    this.order = this.selection.all.slice().sort((first, second) =>
      data.kindCounts[data.kindOf[second]] - data.kindCounts[data.kindOf[first]] || first - second);
  }

  followLink(missingSet) {
    const { data, state } = this;
    const { colour, concept, pair, rows, undrawn = '', ...filters } = readChoices('g');
    const missing = [missingSet];
    if (colour === undefined || ['kind', 'concept', ...data.scoreNames].includes(colour)) state.colouring = colour ?? 'kind';
    else missing.push(colour);
    if (concept === undefined || data.header.concepts.includes(concept)) state.focus = concept ?? '';
    else missing.push(concept);
    const sought = pair === undefined ? -1 : data.rowOf(pair);
    if (sought >= 0) state.inspected = sought;
    else if (!data.undrawn) missing.push(pair);
    const notDrawn = pair !== undefined && sought < 0 && data.undrawn
      ? node('div', { class: 'notice error', role: 'alert' }, `The link names “${pair}”, which is not drawn: ${this.searchedWords()}.`) : null;
    const [stamp, code] = (rows ?? '').split('.');
    const chosen = rows && stamp === data.set.stamp ? decodeRows(code ?? '', data.count) : null;
    if (rows && !chosen) missing.push('a selection of other pairs');
    const filter = followFilters(data, filters, missing);
    const left = chosen && Number(undrawn) > 0 && Number(undrawn) <= data.undrawn ? Math.floor(Number(undrawn)) : 0;
    if (undrawn && !left) missing.push(undrawn);
    this.missing = [notFound(missing), notDrawn];
    if (chosen || filter !== NO_FILTER) this.selection.set({ chosen, filter, undrawn: left });
  }

  writeLink() {
    const { colouring: colour, focus: concept, inspected } = this.state;
    const { chosen, filter, undrawn } = this.selection.state;
    const { data } = this;
    const code = chosen ? `${data.set.stamp}.${encodeRows(chosen, data.count)}` : '';
    this.linked = code.length <= LONGEST_LINK;
    writeChoices('g', {
      set: data.set === this.sets.at(-1) ? '' : data.set.name, colour, concept, pair: inspected === null ? '' : data.uids(inspected),
      rows: this.linked ? code : '', undrawn: (this.linked && undrawn) || '', text: filter.text, in: filter.concept, only: filter.kind, score: filter.score, low: filter.low, high: filter.high,
    }, DEFAULTS);
  }

  start() {
    const { data } = this;
    this.build();
    const handlers = {
      inspect: (row) => this.inspect(row), choose: (rows, how) => this.selection.choose(rows, how), clear: () => this.clear(),
      moved: (plot) => this.moved(plot), drawn: (plot, milliseconds) => this.drawn(plot, milliseconds), describe: (row) => describe(data, row),
      first: () => this.table.order[0], showAll: () => this.showAll(),
    };
    this.plots = SIDES.map((side) => new GraphPlot(this.parts[side], data, side, TITLES[side], handlers));
    this.table = new PairTable(this.parts.table, data, handlers.inspect);
    onThemeChange(() => this.recolour(), this.signal);
    let told;
    data.pictures?.addEventListener('arrived', () => {
      this.plots.forEach((plot) => plot.request());
      const why = data.pictures.whyNone?.problem;
      if (why !== told) this.showSelection(); // which says so, once
      told = why;
    });
    this.selection.changed = () => this.update();
    this.recolour();
    this.showSelection();
  }

  build() {
    const { data } = this;
    const part = (className, attributes = {}) => node('div', { class: className, ...attributes });
    this.lines = document.createElementNS(SVG, 'svg');
    this.lines.setAttribute('class', 'graph-lines');
    this.lines.setAttribute('aria-hidden', 'true');
    this.parts = {
      text: part('graph-side'), image: part('graph-side'), legend: part('graph-legend'), table: part('pair-table-place'),
      inspector: node('aside', { class: 'graph-inspector', 'aria-label': 'Inspector' }), summary: part('pair-list-summary', { role: 'status' }),
      spoken: part('visually-hidden', { role: 'status' }),
    };
    this.toolbar = new GraphToolbar(this);
    this.bar = new SelectionBar(this);
    this.pair = node('div', { class: 'graph-pair' }, this.parts.text, this.parts.image, this.lines);
    this.root.replaceChildren(node('div', { class: 'graphs-screen measure-screen' },
      node('p', { class: 'screen-note' }, withTerms(NOTE, ['D_s'])),
      this.missing, this.intro(), this.toolbar.element, this.parts.legend,
      node('div', { class: 'graphs-main' }, this.pair, this.parts.inspector),
      node('section', { class: 'pair-list-section', 'aria-label': 'Table of pairs', onkeydown: (event) => this.bar.onKey(event) },
        this.bar.element, this.parts.summary, this.parts.table), this.parts.spoken));
    if (!data.sheet && !data.pictures) this.toolbar.hideThumbnails();
  }

  intro() {
    const { set, sampling, layout } = this.data.header;
    const share = (side) => `${TITLES[side].split(':')[0].toLowerCase()} ${layout[side].trustworthiness.toFixed(3)} and ${layout[side].preservation.toFixed(3)}`;
    return node('p', { class: 'note graphs-intro' }, node('strong', {}, `${set.name}, ${poisonWords(set, 'C_P = 0')}. `), sampling.method,
      ' ', node('span', { title: `Over ${layout.text.anchors} pairs and their ${layout.text.neighbours} nearest; both are 1 at best. Distances between far points of a layout mean little.` },
        `Layout: ${layout.method}; trustworthiness and neighbour preservation: ${SIDES.map(share).join(', ')}.`));
  }

  inspect(row) {
    this.state.inspected = row;
    this.display();
    this.showSelection();
    this.plots.forEach((plot) => {
      if (!plot.position(row).inside) plot.move({ x: plot.layout[2 * row], y: plot.layout[2 * row + 1] });
    });
    this.drawLines();
  }

  showAll() {
    this.plots.forEach((plot) => plot.move({ x: 0, y: 0, zoom: 1 }));
    this.drawLines();
  }

  zoom(factor) {
    this.plots[0].zoomAt(factor);
    if (!this.state.together) this.plots[1].zoomAt(factor);
  }

  clear() {
    this.state.inspected = null;
    this.selection.clear();
    this.display();
    this.showSelection();
  }

  update() {
    this.display();
    this.showSelection();
  }

  recolour() {
    this.paint = paint(this.data, this.state.colouring, this.state.focus);
    renderLegend(this.parts.legend, this.data, this.state.colouring, this.state.focus);
    this.display();
  }

  display() {
    const { active } = this.selection;
    if (active !== this.parted?.active) {
      this.parted = { active, meant: active && this.order.filter((row) => active[row]), others: active && this.order.filter((row) => !active[row]) };
    }
    const display = { ...this.state, ...this.parted, paint: this.paint, order: this.order };
    this.plots.forEach((plot) => plot.show(display));
    this.drawLines();
    if (this.shown && !this.signal.aborted) this.writeLink(); // the address may be of another set already
    this.shown = true;
  }

  showSelection() {
    const { data, selection, state } = this;
    renderInspector(this.parts.inspector, data, state.inspected, (row) => this.inspect(row));
    this.parts.spoken.textContent = state.inspected === null ? '' : `Inspecting ${data.caption(state.inspected)}, ${data.words(state.inspected)}`;
    this.parts.summary.textContent = this.words();
    this.bar.show();
    this.table.show(selection.rows, state.inspected);
  }

  words() {
    const { data, selection } = this;
    const { undrawn } = selection.state;
    if (!selection.any) return this.tableWords();
    const searched = data.undrawn && selection.filtered ? ` ${capitalised(this.searchedWords())}.` : '';
    const left = undrawn ? ` ${count(undrawn)} more that the filter on Defence removes ${undrawn === 1 ? 'is' : 'are'} not drawn: what is selected, saved or filtered out here is without them.` : '';
    if (!selection.rows.length) return `No pair ${data.undrawn ? 'that is drawn ' : ''}passes these filters.${searched}${left}`;
    const unjoined = selection.rows.length > LINE_LIMIT ? `. Only the first ${LINE_LIMIT} are joined by lines` : '';
    const unlinked = this.linked === false ? '. Too many for the address: name them, or save them as a file' : '';
    return `${selectionWords(data, selection.rows)}${unjoined}${unlinked}.${searched}${left}`;
  }

  tableWords() {
    const { undrawn, header: { set, sampling } } = this.data;
    const pairs = undrawn ? `Every pair drawn, ${count(sampling.pairs)} of ${count(set.pairs)}` : 'Every pair';
    const words = `${pairs}, biggest movers first: those whose caption and picture disagree most about who their neighbours are, by D_s (never by distance on the drawing).`;
    if (!undrawn) return words;
    // Graphs of earlier releases have no count of them.
    return `${words} ${sampling.movers ? `The ${count(sampling.movers)} biggest movers of the whole set are among them.` : 'The biggest movers of the whole set need not be among them.'}`;
  }

  searchedWords() {
    const { data } = this;
    return `only the ${count(data.count)} pairs drawn are searched, the other ${count(data.undrawn)} of the set are not`;
  }

  moved(plot) {
    const other = this.plots.find((candidate) => candidate !== plot);
    if (this.state.together) other.move({ ...plot.view });
    this.drawLines();
  }

  drawn(plot, milliseconds) {
    plot.frame.dataset.drawn = String(Number(plot.frame.dataset.drawn ?? 0) + 1); // for whoever measures
    plot.frame.dataset.milliseconds = milliseconds.toFixed(1);
    if (!this.painted && this.plots.every((each) => each.frame.dataset.drawn)) {
      this.painted = true;
      performance.mark('graphs-painted');
    }
    this.drawLines();
  }

  // Lines between the two ends of the inspected pair and, up to a limit, of the selected pairs.
  drawLines() {
    this.lining ??= requestAnimationFrame(() => {
      this.lining = null;
      const { inspected, lines } = this.state;
      const origin = this.pair.getBoundingClientRect();
      const boxes = this.plots.map((plot) => plot.frame.getBoundingClientRect());
      const ends = (row) => {
        const [from, to] = this.plots.map((plot, at) => ({ ...plot.position(row), box: boxes[at] }));
        if (!from.inside || !to.inside) return '';
        return [from, to].map(({ x, y, box }, at) => `${at ? 'L' : 'M'}${(box.left - origin.left + x).toFixed(1)} ${(box.top - origin.top + y).toFixed(1)}`).join('');
      };
      const paths = { benign: '', poisoned: '', unrecorded: '' };
      if (lines && this.selection.any) for (const row of this.selection.rows.subarray(0, LINE_LIMIT)) paths[this.data.kind(row)] += ends(row);
      const colours = theme();
      const path = (outline, kind, name) => {
        const line = document.createElementNS(SVG, 'path');
        Object.entries({ d: outline, stroke: colours[kind], class: name }).forEach(([key, value]) => line.setAttribute(key, value));
        return line;
      };
      const shown = Object.entries(paths).filter(([, outline]) => outline).map(([kind, outline]) => path(outline, kind, ''));
      const own = lines && inspected !== null ? ends(inspected) : '';
      if (own) shown.push(path(own, this.data.kind(inspected), 'inspected'));
      this.lines.replaceChildren(...shown);
    });
  }
}
