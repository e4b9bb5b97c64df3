// One of the two graphs: edges, points, selection, thumbnails, and movement by keyboard.

import { drawPlot, layout, node, savePlotButton, theme } from './charts.js';
import { PAIR_KINDS, pairKind, pairWords } from './poison.js';

export const FULL_RANGE = { x: [-1.08, 1.08], y: [-1.08, 1.08] };
const EDGE_LEVELS = 3;
const THUMBNAIL_LIMIT = 140;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class GraphPlot {
  constructor(Plotly, container, data, side, title, handlers) {
    Object.assign(this, { Plotly, data, side, handlers });
    this.xy = data[side].layout;
    this.kinds = Object.keys(PAIR_KINDS).map((kind) =>
      [kind, this.xy.flatMap((_, row) => (pairKind(data.samples, row) === kind ? [row] : []))]);
    this.edges = edgeLevels(data[side]);
    this.pointType = hasWebGL() ? 'scattergl' : 'scatter';
    this.plot = node('div', { class: 'graph-canvas' });
    this.thumbnails = node('canvas', { class: 'graph-thumbnails', 'aria-hidden': 'true' });
    this.frame = node('div', {
      class: 'graph-frame', tabindex: '0', role: 'application', 'data-side': side,
      'aria-label': `${title}. Arrow keys move to the nearest pair in that direction, plus and minus zoom, Escape clears the selection.`,
      onkeydown: (event) => this.onKey(event),
    }, this.plot, this.thumbnails);
    container.append(node('h3', { class: 'graph-title' }, title), this.frame);
  }

  async draw(view) {
    this.view = view;
    const colours = theme();
    const range = this.plot.layout ? this.range() : FULL_RANGE;
    const hidden = { visible: false };
    const settings = layout(colours, {
      margin: { l: 4, r: 4, t: 4, b: 4 }, dragmode: view.drag, hovermode: 'closest', uirevision: 'keep',
      selections: [], selectionrevision: (this.drawn = (this.drawn ?? 0) + 1),
      xaxis: { ...hidden, range: range.x }, yaxis: { ...hidden, range: range.y },
    });
    const name = `${this.side}-graph`;
    await drawPlot(this.Plotly, this.plot, this.traces(view, colours), settings, name,
      { scrollZoom: true, doubleClick: 'reset', modeBarButtons: [[savePlotButton(this.Plotly, name)]] });
    if (!this.bound) this.bind();
    this.drawThumbnails();
  }

  traces(view, colours) {
    const edges = this.edges.map((level, index) => ({
      type: this.pointType, mode: 'lines', x: level.x, y: level.y, hoverinfo: 'skip', visible: view.edges,
      line: { color: colours.dark ? '#8fa3b5' : '#51616f', width: 1 }, opacity: [0.1, 0.18, 0.32][index],
      name: 'edges',
    }));
    const points = this.kinds.map(([kind, rows]) => this.pointTrace(rows, kind, view, colours));
    return [...edges, ...points, this.ringTrace(view, colours), this.focusTrace(view, colours)];
  }

  pointTrace(rows, kind, view, colours) {
    const chosen = view.chosen.size ? rows.flatMap((row, at) => (view.chosen.has(row) ? [at] : [])) : null;
    return {
      type: this.pointType, mode: 'markers', name: PAIR_KINDS[kind].words,
      x: rows.map((row) => this.xy[row][0]), y: rows.map((row) => this.xy[row][1]), customdata: rows,
      text: rows.map((row) => this.hoverText(row)), hovertemplate: '%{text}<extra></extra>',
      marker: {
        ...view.marker(rows, kind, colours), symbol: PAIR_KINDS[kind].symbol, size: PAIR_KINDS[kind].size,
        line: { width: 0.6, color: colours.surface },
      },
      selectedpoints: chosen, unselected: { marker: { opacity: 0.14 } }, selected: { marker: { opacity: 1 } },
    };
  }

  // Plotly reads a little HTML in hover texts: angle brackets and ampersands are written as entities.
  hoverText(row) {
    const { caption, structure_distance } = this.data.samples;
    const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };
    const escape = (text) => text.replace(/[&<>]/g, (character) => entities[character]);
    return `${escape(caption[row])}<br>${escape(pairWords(this.data.samples, row))} · D_s ${structure_distance[row].toFixed(3)}`;
  }

  ringTrace(view, colours) {
    const rows = view.selected === null ? [] : this.data[this.side].neighbours[view.selected];
    return {
      type: this.pointType, mode: 'markers', hoverinfo: 'skip', name: 'neighbours',
      x: rows.map((row) => this.xy[row][0]), y: rows.map((row) => this.xy[row][1]),
      marker: { size: 14, symbol: 'circle-open', color: colours.text, line: { width: 1.6, color: colours.text } },
    };
  }

  focusTrace(view, colours) {
    const rows = view.selected === null ? [] : [view.selected];
    return {
      type: this.pointType, mode: 'markers', hoverinfo: 'skip', name: 'inspected',
      x: rows.map((row) => this.xy[row][0]), y: rows.map((row) => this.xy[row][1]),
      marker: { size: 24, symbol: 'circle-open', color: colours.text, line: { width: 3.5, color: colours.text } },
    };
  }

  bind() {
    this.bound = true;
    this.plot.on('plotly_click', (event) => {
      const point = event.points.find((entry) => entry.customdata !== undefined);
      if (point) this.handlers.inspect(point.customdata);
    });
    this.plot.on('plotly_selected', (event) => {
      if (!event?.points?.length) return;
      const rows = event.points.map((point) => point.customdata).filter((row) => row !== undefined);
      this.handlers.choose([...new Set(rows)]);
    });
    this.plot.on('plotly_deselect', () => this.handlers.choose([]));
    this.plot.on('plotly_relayouting', () => this.moved());
    this.plot.on('plotly_relayout', () => this.moved());
    new ResizeObserver(() => this.moved()).observe(this.plot);
  }

  moved() {
    if (!this.frame.isConnected) return;
    this.drawThumbnails();
    this.handlers.moved(this);
  }

  range() {
    const { xaxis, yaxis } = this.plot._fullLayout;
    return { x: [...xaxis.range], y: [...yaxis.range] };
  }

  showRange(range) {
    return this.Plotly.relayout(this.plot, { 'xaxis.range': [...range.x], 'yaxis.range': [...range.y] });
  }

  zoom(factor) {
    const centre = ([low, high]) => (low + high) / 2;
    const scale = (pair) => pair.map((end) => centre(pair) + (end - centre(pair)) * factor);
    const range = this.range();
    return this.showRange({ x: scale(range.x), y: scale(range.y) });
  }

  // Pixel position inside the frame; null where the point lies outside the visible part.
  position(row) {
    const { xaxis, yaxis } = this.plot._fullLayout;
    const x = xaxis.d2p(this.xy[row][0]) + xaxis._offset;
    const y = yaxis.d2p(this.xy[row][1]) + yaxis._offset;
    return { x, y, inside: x >= 0 && y >= 0 && x <= this.plot.clientWidth && y <= this.plot.clientHeight };
  }

  drawThumbnails() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    const ratio = window.devicePixelRatio || 1;
    this.thumbnails.width = width * ratio;
    this.thumbnails.height = height * ratio;
    const sheet = this.view?.sheet;
    if (!sheet || !this.view.thumbnails || !this.plot._fullLayout) return;
    const visible = this.xy.flatMap((_, row) => {
      const at = this.position(row);
      return at.inside ? [{ row, ...at }] : [];
    });
    if (visible.length > THUMBNAIL_LIMIT) return;
    const context = this.thumbnails.getContext('2d');
    const colours = theme();
    const { size, columns } = this.data.thumbnails;
    context.scale(ratio, ratio);
    for (const { row, x, y } of visible) {
      const side = row === this.view.selected ? 58 : visible.length > 60 ? 28 : 38;
      context.fillStyle = colours[pairKind(this.data.samples, row)];
      context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
      context.drawImage(sheet, (row % columns) * size, Math.floor(row / columns) * size, size, size,
        x - side / 2, y - side / 2, side, side);
    }
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return undefined; // the browser's own, such as going back
    if (event.key === 'Escape') return this.handlers.clear();
    if (event.key === '+' || event.key === '-') return this.zoom(event.key === '+' ? 0.7 : 1 / 0.7);
    const direction = ARROWS[event.key];
    if (!direction) return undefined;
    event.preventDefault();
    const from = this.view.selected;
    return this.handlers.inspect(from === null ? this.data.movers[0] : nearestTowards(this.xy, from, direction));
  }
}

// The nearest point within 45 degrees of `direction`; the start itself where there is none.
export function nearestTowards(xy, from, [right, up]) {
  let best = from;
  let bestDistance = Infinity;
  xy.forEach(([x, y], row) => {
    const dx = x - xy[from][0];
    const dy = y - xy[from][1];
    const along = dx * right + dy * up;
    const across = Math.abs(dx * up - dy * right);
    const distance = Math.hypot(dx, dy);
    if (row !== from && along > 0 && across <= along && distance < bestDistance) {
      best = row;
      bestDistance = distance;
    }
  });
  return best;
}

// Each edge once, in levels of similarity (weakest first), as the broken lines Plotly draws in one go.
function edgeLevels({ layout: xy, neighbours, similarities }) {
  const weights = new Map();
  neighbours.forEach((ends, row) => ends.forEach((end, at) => {
    weights.set(Math.min(row, end) * xy.length + Math.max(row, end), similarities[row][at]);
  }));
  const edges = [...weights].sort((first, second) => first[1] - second[1]);
  const step = Math.ceil(edges.length / EDGE_LEVELS);
  return Array.from({ length: EDGE_LEVELS }, (_, level) => {
    const line = { x: [], y: [] };
    for (const [key] of edges.slice(level * step, (level + 1) * step)) {
      const [start, end] = [xy[Math.floor(key / xy.length)], xy[key % xy.length]];
      line.x.push(start[0], end[0], null);
      line.y.push(start[1], end[1], null);
    }
    return line;
  });
}

function hasWebGL() {
  const context = document.createElement('canvas').getContext('webgl');
  context?.getExtension('WEBGL_lose_context')?.loseContext();
  return context !== null;
}
