// One of the two maps: points, edges and what lies over them, moved by mouse, wheel and keyboard.

import { node, theme } from './charts.js';
import { drawOverlay } from './graph_overlay.js';
import { saveMap } from './graph_picture.js';
import { PointRaster, SHAPES, rgb } from './point_raster.js';
import { KINDS, PAIR_KINDS } from './poison.js';

const MARGIN = 1.06;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const NEAR = 10; // pixels within which a click or the mouse means a point
const EDGES_WHILE_MOVING = 12_000; // more than these are drawn once the map rests
const PAIRS_WITH_EDGES = 12_000; // where more are in view, edges would be a haze
const REST_MS = 250;
const MOST_ZOOM = 400;

export class GraphPlot {
  constructor(container, data, side, title, handlers) {
    Object.assign(this, { data, side, title, handlers, hovered: -1, outline: null });
    Object.assign(this, data.sides[side]); // layout, grid
    this.canvas = node('canvas', { class: 'graph-canvas', 'aria-hidden': 'true' });
    this.overlay = node('canvas', { class: 'graph-canvas', 'aria-hidden': 'true' });
    this.card = node('div', { class: 'graph-hover', hidden: true, 'aria-hidden': 'true' });
    this.frame = node('div', {
      class: 'graph-frame', tabindex: '0', role: 'application', 'data-side': side,
      'aria-label': `${title}. Arrow keys move to the nearest pair in that direction, plus and minus zoom, Escape clears the selection. The table below lists the same pairs.`,
      onkeydown: (event) => this.onKey(event),
    }, this.canvas, this.overlay, this.card);
    const save = node('button', { type: 'button', class: 'plain-button save-table', title: 'Save as PNG, with the link to this view', onclick: () => saveMap(this) }, 'Save map');
    container.append(node('div', { class: 'table-head' }, node('h3', { class: 'graph-title' }, title), save), this.frame);
    this.view = { x: 0, y: 0, zoom: 1 };
    this.bind();
  }

  bind() {
    const on = (type, act, options) => this.overlay.addEventListener(type, act, options);
    on('pointerdown', (event) => this.onDown(event));
    on('pointermove', (event) => this.onMove(event));
    on('pointerup', (event) => this.onUp(event));
    on('pointercancel', () => { this.drag = null; this.outline = null; this.request(); });
    on('pointerleave', () => this.hover(-1));
    on('dblclick', () => this.handlers.showAll());
    on('wheel', (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * 0.0018), this.place(event));
    }, { passive: false });
    new ResizeObserver(() => this.resize()).observe(this.frame);
  }

  resize() {
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    if (!width || !height) return;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    Object.assign(this, { width, height, still: null, raster: new PointRaster(this.canvas.width, this.canvas.height) });
    this.request();
  }

  // What is drawn from now on: paint, chosen rows, whether edges and thumbnails are.
  show(display) {
    this.display = display;
    this.request();
  }

  get scale() { return (Math.min(this.width, this.height) / 2 / MARGIN) * this.view.zoom; }

  // Of a pair, in pixels of the frame.
  position(row) {
    const x = (this.layout[2 * row] - this.view.x) * this.scale + this.width / 2;
    const y = (this.view.y - this.layout[2 * row + 1]) * this.scale + this.height / 2;
    return { x, y, inside: x >= 0 && y >= 0 && x <= this.width && y <= this.height };
  }

  // The point of the plane at pixel [x, y].
  plane([x, y]) {
    return [(x - this.width / 2) / this.scale + this.view.x, this.view.y - (y - this.height / 2) / this.scale];
  }

  place(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  at(place) {
    const [x, y] = this.plane(place);
    return this.grid.nearest(x, y, NEAR / this.scale);
  }

  request() {
    this.asked ??= requestAnimationFrame(() => { this.asked = null; this.draw(); });
  }

  move(view) {
    Object.assign(this.view, view);
    this.hover(-1);
    this.moving = true;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => { this.moving = false; this.request(); }, REST_MS);
    this.request();
  }

  zoomAt(factor, place = [this.width / 2, this.height / 2]) {
    const [x, y] = this.plane(place);
    const zoom = Math.min(MOST_ZOOM, Math.max(0.5, this.view.zoom * factor));
    const scale = this.scale * (zoom / this.view.zoom);
    this.move({ x: x - (place[0] - this.width / 2) / scale, y: y + (place[1] - this.height / 2) / scale, zoom });
    this.handlers.moved(this);
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.overlay.setPointerCapture(event.pointerId);
    const start = this.place(event);
    this.drag = { start, last: start, moved: false, mode: this.display.drag };
    this.frame.focus({ preventScroll: true });
    if (this.drag.mode !== 'pan') this.outline = [start];
  }

  onMove(event) {
    const place = this.place(event);
    if (!this.drag) {
      this.hover(this.at(place));
      return;
    }
    const { start, last, mode } = this.drag;
    this.drag.moved ||= Math.hypot(place[0] - start[0], place[1] - start[1]) > 3;
    if (!this.drag.moved) return;
    this.drag.last = place;
    this.hover(-1);
    if (mode === 'pan') {
      this.move({ x: this.view.x - (place[0] - last[0]) / this.scale, y: this.view.y + (place[1] - last[1]) / this.scale });
      this.handlers.moved(this);
    } else {
      this.outline = mode === 'lasso' ? [...this.outline, place] : [start, [place[0], start[1]], place, [start[0], place[1]]];
      this.request();
    }
  }

  onUp(event) {
    const [drag, outline] = [this.drag, this.outline];
    this.drag = this.outline = null;
    if (!drag) return;
    if (!drag.moved) {
      const row = this.at(this.place(event));
      if (row >= 0) this.handlers.inspect(row);
    } else if (outline) {
      const rows = this.grid.within(outline.map((place) => this.plane(place)));
      const how = event.shiftKey ? 'add' : event.altKey ? 'remove' : 'replace';
      this.handlers.choose(rows, how);
    }
    this.request();
  }

  hover(row) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.card.hidden = row < 0;
    this.overlay.style.cursor = row >= 0 ? 'pointer' : '';
    if (row >= 0) {
      const { x, y } = this.position(row);
      this.card.replaceChildren(...this.handlers.describe(row));
      this.card.style.left = `${Math.min(x + 14, this.width - this.card.offsetWidth - 4)}px`;
      this.card.style.top = `${y + 14 + this.card.offsetHeight > this.height ? y - 14 - this.card.offsetHeight : y + 14}px`;
    }
    this.request();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own, such as going back
    const direction = ARROWS[event.key];
    if (event.key === 'Escape') this.handlers.clear();
    else if (event.key === '+' || event.key === '-') this.zoomAt(event.key === '+' ? 1 / 0.7 : 0.7);
    else if (direction) {
      const from = this.display.inspected;
      const next = from === null ? this.handlers.first() : this.grid.towards(from, direction);
      if (next !== undefined) this.handlers.inspect(next); // no pair may pass the filters
    } else return;
    event.preventDefault();
  }

  draw() {
    if (!this.display || !this.width) return;
    const began = performance.now();
    const colours = theme();
    this.raster.clear(rgb(colours.surface));
    this.tooMany = this.display.edges && this.data.count > PAIRS_WITH_EDGES && this.inView() > PAIRS_WITH_EDGES;
    if (this.display.edges && !this.tooMany) {
      const edges = this.data.edges(this.side);
      if (!(this.moving || this.drag?.moved) || edges.weights.length <= EDGES_WHILE_MOVING) this.drawEdges(edges, rgb(colours.faint));
    }
    this.drawPoints(rgb(colours.faint));
    this.canvas.getContext('2d', { alpha: false }).putImageData(this.raster.image, 0, 0);
    drawOverlay(this, colours);
    this.handlers.drawn(this, performance.now() - began);
  }

  // Pairs in the cells that the frame touches.
  inView() {
    const [left, top] = this.plane([0, 0]);
    const [right, bottom] = this.plane([this.width, this.height]);
    return this.grid.inBox(left, bottom, right, top);
  }

  // Of these, the pairs in cells that are wholly within the frame.
  surelyInView() {
    const [left, top] = this.plane([0, 0]);
    const [right, bottom] = this.plane([this.width, this.height]);
    return this.grid.surelyInBox(left, bottom, right, top);
  }

  // From the plane to pixels of the canvas.
  transform() {
    const scale = this.scale * this.ratio;
    return { scale, left: (this.width / 2) * this.ratio - this.view.x * scale, top: (this.height / 2) * this.ratio + this.view.y * scale };
  }

  drawEdges({ ends, weights }, colour) {
    const { scale, left, top } = this.transform();
    const { layout, raster } = this;
    const strength = 256 * (Math.min(1, (9000 / weights.length) * this.view.zoom ** 2) * 0.26 + 0.05);
    for (let edge = 0; edge < weights.length; edge += 1) {
      const from = 2 * ends[2 * edge];
      const to = 2 * ends[2 * edge + 1];
      raster.line(layout[from] * scale + left, top - layout[from + 1] * scale, layout[to] * scale + left, top - layout[to + 1] * scale,
        colour, strength * Math.max(0.3, weights[edge]));
    }
  }

  // Radius in pixels and opacity of a point: small and translucent where many pairs share the frame.
  mark() {
    const share = Math.sqrt((0.3 * this.width * this.height) / (Math.PI * this.data.count));
    const radius = Math.min(7, Math.min(4, Math.max(1, share)) * Math.sqrt(Math.max(1, this.view.zoom)) ** 0.9);
    return { radius, opacity: Math.min(0.9, 0.35 + radius / 7) };
  }

  // Those that are meant lie over the others, which are grey.
  drawPoints(grey) {
    const { paint, order, active } = this.display;
    const { radius, opacity } = this.mark();
    const masks = KINDS.map((kind) =>
      this.raster.mask(SHAPES[PAIR_KINDS[kind].symbol], radius * this.ratio * (PAIR_KINDS[kind].size / 8)));
    const points = { layout: this.layout, kindOf: this.data.kindOf, index: paint.index };
    const strong = paint.opacity.map((part) => Math.min(1, opacity * part * (active ? 1.25 : 1)));
    if (active) this.raster.points(this.display.others, points, this.transform(), masks, paint.colours.map(() => grey), strong.map(() => opacity * 0.3));
    this.raster.points(active ? this.display.meant : order, points, this.transform(), masks, paint.colours, strong);
  }
}
