// The colours of the maps with both ends of their scale.

import { node } from './charts.js';
import { UNITS } from './compare_kinds.js';
import { gradient } from './maps.js';

export class Legend {
  constructor() {
    [this.low, this.bar, this.high] = [node('span'), node('span', { class: 'legend-bar' }), node('span')];
    this.element = node('span', { class: 'legend', 'aria-hidden': 'true' }, this.low, this.bar, this.high);
  }

  // Nothing is shown of a scale that has no top, as while nothing was measured.
  show(limit, { kind, view, scale }) {
    const signed = view === 'difference';
    Object.assign(this.element, { hidden: !(limit > 0), title: UNITS[kind] });
    this.bar.style.background = gradient(signed);
    const top = scale === 'absolute' ? limit.toPrecision(2) : 'max';
    this.low.textContent = signed ? `−${top}` : '0';
    this.high.textContent = signed ? `+${top}` : top;
  }
}
