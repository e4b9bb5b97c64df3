// The Graphs screen: text graph on the left, image graph on the right, one selection on both.

import { here, readChoices, writeChoices } from './address.js';
import { download, fetchPayload, loadPlotly, node, notFound, onThemeChange, showProblem, theme, whenVisible } from './charts.js';
import { COLOURINGS, colouringsOf, conceptCounts, markers, renderLegend } from './graph_colours.js';
import { pairKind, pairWords, poisonWords } from './poison.js';
import { chosenSummary, renderChosen, renderInspector, renderMovers } from './graph_inspector.js';
import { FULL_RANGE, GraphPlot } from './graph_plot.js';

const SVG = 'http://www.w3.org/2000/svg';
const LINE_LIMIT = 400;
const DRAG_MODES = [['pan', 'Move'], ['lasso', 'Lasso'], ['select', 'Box']];

export async function mount({ element, props }) {
  const root = element.querySelector('.viewer-root');
  await whenVisible(root);
  const start = async () => {
    try {
      const [Plotly, data] = await Promise.all([loadPlotly(), fetchPayload(props.value.url)]);
      await new GraphsScreen(Plotly, root, data).start();
    } catch (error) {
      showProblem(root, 'The graphs cannot be shown', error, start);
    }
  };
  await start();
}

class GraphsScreen {
  constructor(Plotly, root, data) {
    Object.assign(this, { Plotly, root, data });
    this.state = {
      colouring: 'kind', focus: '', edges: true, lines: true, thumbnails: true, together: true, drag: 'pan',
      selected: null, chosen: new Set(), list: 'movers',
    };
    this.followLink();
  }

  followLink() {
    const { colour, concept, pair } = readChoices('g');
    if (colouringsOf(this.data).some(([value]) => value === colour)) this.state.colouring = colour;
    if (this.data.samples.main_concept.includes(concept)) this.state.focus = concept;
    const row = this.data.samples.uid.indexOf(pair);
    if (row >= 0) this.state.selected = row;
    const offered = colouringsOf(this.data).map(([value]) => value);
    this.missing = notFound([offered.includes(colour) ? '' : colour,
      this.data.samples.main_concept.includes(concept) ? '' : concept, row >= 0 ? '' : pair]);
  }

  writeLink() {
    const { colouring: colour, focus: concept, selected } = this.state;
    const pair = selected === null ? '' : this.data.samples.uid[selected];
    writeChoices('g', { colour, concept, pair }, { colour: COLOURINGS[0][0], concept: '', pair: '' });
  }

  async start() {
    this.build();
    this.sheet = await loadImage(this.data.thumbnails_url);
    const handlers = {
      inspect: (row) => this.inspect(row), choose: (rows) => this.choose(rows), clear: () => this.clear(),
      moved: (plot) => this.moved(plot),
    };
    this.plots = [['text', 'Text graph: near captions'], ['image', 'Image graph: near pictures']].map(
      ([side, title]) => new GraphPlot(this.Plotly, this.parts[side], this.data, side, title, handlers));
    onThemeChange(() => { this.draw(); this.legend(); });
    this.legend();
    this.sidebar();
    await this.draw();
  }

  build() {
    const part = (className, attributes = {}) => node('div', { class: className, ...attributes });
    this.lines = document.createElementNS(SVG, 'svg');
    this.lines.setAttribute('class', 'graph-lines');
    this.lines.setAttribute('aria-hidden', 'true');
    this.parts = {
      text: part('graph-side'), image: part('graph-side'), legend: part('graph-legend'),
      inspector: node('aside', { class: 'graph-inspector', 'aria-label': 'Inspector' }),
      list: part('pair-list'), summary: part('pair-list-summary', { role: 'status' }), spoken: part('visually-hidden', { role: 'status' }),
    };
    this.pair = node('div', { class: 'graph-pair' }, this.parts.text, this.parts.image, this.lines);
    this.root.replaceChildren(node('div', { class: 'graphs-screen measure-screen' },
      this.missing, this.intro(), this.toolbar(), this.parts.legend,
      node('div', { class: 'graphs-main' }, this.pair, this.parts.inspector),
      node('section', { class: 'pair-list-section', 'aria-label': 'Lists of pairs' }, this.listTabs(),
        this.parts.summary, this.parts.list), this.parts.spoken));
  }

  intro() {
    const { set, sampling } = this.data;
    return node('p', { class: 'note graphs-intro' }, node('strong', {}, `${set.name}, ${poisonWords(set, 'C_P = 0')}. `), sampling.method);
  }

  toolbar() {
    const colouring = node('select', { id: 'graph-colouring', class: 'plain-select', onchange: (event) => {
      this.state.colouring = event.target.value;
      focus.hidden = this.state.colouring !== 'concept';
      this.legend();
      this.draw();
    } }, colouringsOf(this.data).map(([value, label]) => node('option', { value, selected: value === this.state.colouring }, label)));
    const concepts = conceptCounts(this.data).map(([name, size]) => node('option', { value: name, selected: name === this.state.focus }, `${name} (${size})`));
    const focus = node('select', { class: 'plain-select', 'aria-label': 'Concept in focus', hidden: this.state.colouring !== 'concept', onchange: (event) => {
      this.state.focus = event.target.value;
      this.legend();
      this.draw();
    } }, node('option', { value: '' }, 'most frequent'), concepts);
    this.search = node('input', {
      type: 'search', class: 'graph-search', placeholder: 'Find caption, concept or uid…',
      'aria-label': 'Find caption, concept or uid', oninput: (event) => this.find(event.target.value),
    });
    return node('div', { class: 'graph-toolbar', role: 'toolbar', 'aria-label': 'Graph display' },
      node('label', { for: 'graph-colouring' }, 'Colour by'), colouring, focus,
      this.dragModes(), this.zoomButtons(),
      this.toggle('edges', 'Edges', () => this.draw()),
      this.toggle('lines', 'Join pairs', () => this.drawLines()),
      this.toggle('together', 'Zoom together', () => {}),
      this.toggle('thumbnails', 'Pictures when zoomed in', () => this.draw()),
      this.search);
  }

  dragModes() {
    const buttons = DRAG_MODES.map(([mode, label]) => node('button', {
      type: 'button', class: 'plain-button', 'aria-pressed': mode === this.state.drag ? 'true' : 'false',
      onclick: () => {
        this.state.drag = mode;
        buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(DRAG_MODES[at][0] === mode)));
        this.draw();
      },
    }, label));
    return node('span', { class: 'segments', role: 'group', 'aria-label': 'Dragging in a graph' }, buttons);
  }

  zoomButtons() {
    const button = (label, title, act) => node('button', {
      type: 'button', class: 'plain-button', title, 'aria-label': title, onclick: act }, label);
    return node('span', { class: 'segments', role: 'group', 'aria-label': 'Zoom' },
      button('+', 'Zoom in', () => this.zoom(0.6)), button('−', 'Zoom out', () => this.zoom(1 / 0.6)),
      button('All', 'Show all pairs', () => this.showAll()));
  }

  toggle(name, label, act) {
    return node('label', { class: 'toggle' }, node('input', {
      type: 'checkbox', name: `graph-${name}`, checked: this.state[name],
      onchange: (event) => { this.state[name] = event.target.checked; act(); },
    }), label);
  }

  listTabs() {
    const tabs = { movers: 'Biggest movers by D_s', chosen: 'Selected pairs' };
    this.tabs = Object.entries(tabs).map(([name, label]) => node('button', {
      type: 'button', class: 'plain-button', 'data-list': name, onclick: () => { this.state.list = name; this.sidebar(); },
    }, label));
    const save = node('button', { type: 'button', class: 'plain-button', onclick: () => this.save() }, 'Save selected ids');
    const clear = node('button', { type: 'button', class: 'plain-button', onclick: () => this.clear() }, 'Clear selection');
    this.selectionButtons = { save, clear };
    return node('div', { class: 'pair-list-tabs' }, this.tabs, node('span', { class: 'spacer' }), save, clear);
  }

  async inspect(row) {
    this.state.selected = row;
    this.sidebar();
    await this.draw();
    if (!this.plots.every((plot) => plot.position(row).inside)) await this.showAll();
  }

  showAll() {
    return Promise.all(this.plots.map((plot) => plot.showRange(FULL_RANGE)));
  }

  zoom(factor) {
    const plots = this.state.together ? this.plots.slice(0, 1) : this.plots;
    return Promise.all(plots.map((plot) => plot.zoom(factor)));
  }

  choose(rows, missing = '') {
    this.missing = missing;
    this.state.chosen = new Set(rows);
    this.state.list = rows.length ? 'chosen' : 'movers';
    this.sidebar();
    return this.draw();
  }

  clear() {
    this.state.selected = null;
    this.search.value = '';
    return this.choose([]);
  }

  find(query) {
    const wanted = query.trim().toLowerCase();
    const { uid, caption, concepts } = this.data.samples;
    const found = wanted === '' ? [] : uid.flatMap((name, row) => {
      const text = `${name} ${caption[row]} ${concepts[row].join(' ')}`.toLowerCase();
      return text.includes(wanted) ? [row] : [];
    });
    this.choose(found, wanted !== '' && found.length === 0 ? `No pair of the sample mentions “${query.trim()}”.` : '');
  }

  save() {
    const { uid } = this.data.samples;
    const ids = [...this.state.chosen].map((row) => uid[row]);
    download('selected-pairs.json', { set: this.data.set, selected: ids });
  }

  view() {
    const { colouring, focus } = this.state;
    return { ...this.state, marker: markers(this.data, colouring, focus), sheet: this.sheet };
  }

  async draw() {
    if (!this.plots) return;
    const view = this.view();
    await Promise.all(this.plots.map((plot) => plot.draw(view)));
    this.drawLines();
    if (this.drawn) this.writeLink();
    this.drawn = true;
  }

  legend() {
    renderLegend(this.parts.legend, this.data, this.state.colouring, this.state.focus);
  }

  sidebar() {
    const { selected, chosen, list } = this.state;
    const inspect = (row) => this.inspect(row);
    renderInspector(this.parts.inspector, this.data, selected, inspect);
    this.parts.spoken.textContent = selected === null ? ''
      : `Inspecting ${this.data.samples.caption[selected]}, ${pairWords(this.data.samples, selected)}`;
    this.tabs.forEach((tab) => tab.setAttribute('aria-pressed', String(tab.dataset.list === list)));
    this.selectionButtons.save.disabled = chosen.size === 0;
    this.selectionButtons.clear.disabled = chosen.size === 0 && selected === null;
    if (list === 'movers') {
      this.parts.summary.textContent = this.missing || 'Pairs whose caption and picture disagree most about who their '
        + 'neighbours are, by structure distance D_s (never by distance on the drawing).';
      renderMovers(this.parts.list, this.data, selected, inspect);
    } else {
      const unjoined = chosen.size > LINE_LIMIT ? `. Only the first ${LINE_LIMIT} are joined by lines.` : '';
      this.parts.summary.textContent = chosen.size ? chosenSummary(this.data, chosen) + unjoined
        : 'Nothing is selected yet: choose Lasso or Box and drag around pairs in either graph, or search above.';
      renderChosen(this.parts.list, this.data, chosen, selected, inspect);
    }
  }

  moved(plot) {
    const other = this.plots.find((candidate) => candidate !== plot);
    if (this.state.together && other.plot._fullLayout) {
      const [here, there] = [plot.range(), other.range()];
      const far = (first, second) => first.some((end, at) => Math.abs(end - second[at]) > 1e-9);
      if (far(here.x, there.x) || far(here.y, there.y)) other.showRange(here);
    }
    this.drawLines();
  }

  // Lines between the two ends of the inspected pair and, up to a limit, of the selected pairs.
  drawLines() {
    const { selected, chosen, lines } = this.state;
    const rows = [...[...chosen].slice(0, LINE_LIMIT), ...(selected === null ? [] : [selected])];
    const origin = this.pair.getBoundingClientRect();
    const colours = theme();
    const ends = (row) => this.plots.map((plot) => {
      const box = plot.plot.getBoundingClientRect();
      const at = plot.position(row);
      return { x: box.left - origin.left + at.x, y: box.top - origin.top + at.y, inside: at.inside };
    });
    this.lines.replaceChildren(...(lines ? rows : []).flatMap((row) => {
      const [from, to] = ends(row);
      if (!from.inside || !to.inside) return [];
      const line = document.createElementNS(SVG, 'line');
      const colour = colours[pairKind(this.data.samples, row)];
      const shape = { x1: from.x, y1: from.y, x2: to.x, y2: to.y, stroke: colour, 'data-row': row };
      Object.entries(shape).forEach(([name, value]) => line.setAttribute(name, value));
      line.setAttribute('class', row === selected ? 'inspected' : '');
      return [line];
    }));
  }
}

function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(`The thumbnails (${url}) did not load.`));
    image.src = here(url);
  });
}
