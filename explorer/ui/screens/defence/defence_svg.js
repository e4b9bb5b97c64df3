// A small chart of our own: two axes, lines, and a mark that follows the cut. Lines are drawn anew when the place changes
// its size, and moved marks alone while a cut is dragged.

import { onThemeChange } from './charts.js';

const SVG = 'http://www.w3.org/2000/svg';
const MARGIN = { left: 58, right: 14, top: 10, bottom: 40 };
const DASHES = { solid: '', dash: '7 4', dot: '2 3' };

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// About `wanted` round numbers from `low` to `high`.
export function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + step * 1e-9; tick += 1) found.push(Number((tick * step).toPrecision(12)));
  return found;
}

// A short piece of a line, for a legend.
export const lineKey = ({ colour, dash, width }) => svg('svg', { class: 'line-key', width: 28, height: 8, 'aria-hidden': 'true' },
  svg('line', { x1: 0, x2: 28, y1: 4, y2: 4, stroke: colour, 'stroke-width': width + 0.5, 'stroke-dasharray': DASHES[dash] }));

export class Chart {
  // `describe()` gives what is drawn: `label`, `x` and `y` ([low, high]), `xTitle`, `yTitle`, `xFormat`, `yFormat`,
  // `lines` ({points: [[x, y]], colour, dash, width}), `extra(chart)` for further elements. `mark(chart)` gives the elements
  // that follow the cut.
  constructor(describe, mark, signal) {
    Object.assign(this, { describe, markOf: mark });
    this.element = svg('svg', { class: 'defence-chart', role: 'img' });
    this.still = svg('g');
    this.moving = svg('g');
    this.element.append(this.still, this.moving);
    new ResizeObserver(() => {
      if (this.element.clientWidth && this.size !== `${this.element.clientWidth} ${this.element.clientHeight}`) this.draw();
    }).observe(this.element);
    onThemeChange(() => this.draw(), signal);
  }

  x(value) { return MARGIN.left + ((value - this.drawn.x[0]) / (this.drawn.x[1] - this.drawn.x[0])) * this.inner.width; }

  y(value) { return MARGIN.top + (1 - (value - this.drawn.y[0]) / (this.drawn.y[1] - this.drawn.y[0])) * this.inner.height; }

  // The value of x under a place on the page.
  valueAt(clientX) {
    const share = (clientX - this.element.getBoundingClientRect().left - MARGIN.left) / this.inner.width;
    return this.drawn.x[0] + Math.min(1, Math.max(0, share)) * (this.drawn.x[1] - this.drawn.x[0]);
  }

  draw() {
    this.width = this.element.clientWidth;
    if (!this.width) return;
    this.size = `${this.width} ${this.element.clientHeight}`;
    this.inner = { width: this.width - MARGIN.left - MARGIN.right, height: this.element.clientHeight - MARGIN.top - MARGIN.bottom };
    this.drawn = this.describe();
    this.element.setAttribute('aria-label', this.drawn.label);
    this.still.replaceChildren(...this.axes(), ...this.drawn.lines.map((line) => this.line(line)), ...(this.drawn.extra?.(this) ?? []));
    this.move();
  }

  move() { if (this.width) this.moving.replaceChildren(...this.markOf(this)); }

  line({ points, colour, dash = 'solid', width = 2, opacity = 1, title }) {
    const path = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
      .map(([x, y], at) => `${at ? 'L' : 'M'}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join('');
    return svg('path', { d: path, fill: 'none', stroke: colour, 'stroke-width': width, 'stroke-dasharray': DASHES[dash], opacity, 'stroke-linejoin': 'round' },
      title ? svg('title', {}, title) : null);
  }

  axes() {
    const { x, y, xTitle, yTitle, xFormat, yFormat } = this.drawn;
    const [left, bottom] = [MARGIN.left, MARGIN.top + this.inner.height];
    const right = left + this.inner.width;
    return [
      ...ticks(...y).flatMap((tick) => [
        svg('line', { x1: left, x2: right, y1: this.y(tick), y2: this.y(tick), class: 'grid' }),
        svg('text', { x: left - 6, y: this.y(tick) + 4, 'text-anchor': 'end' }, yFormat(tick))]),
      ...ticks(...x, Math.max(2, Math.floor(this.inner.width / 70))).map((tick) => svg('text', { x: this.x(tick), y: bottom + 15, 'text-anchor': 'middle' }, xFormat(tick))),
      svg('line', { x1: left, x2: right, y1: bottom, y2: bottom, class: 'axis' }),
      svg('text', { x: left + this.inner.width / 2, y: bottom + 33, 'text-anchor': 'middle', class: 'axis-title' }, xTitle),
      svg('text', { transform: `translate(11 ${MARGIN.top + this.inner.height / 2}) rotate(-90)`, 'text-anchor': 'middle', class: 'axis-title' }, yTitle),
    ];
  }

  // The height of the plot, for lines across it.
  get span() { return { top: MARGIN.top, bottom: MARGIN.top + this.inner.height, left: MARGIN.left, right: MARGIN.left + this.inner.width }; }
}
