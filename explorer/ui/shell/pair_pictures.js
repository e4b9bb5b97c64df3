// Small pictures of pairs, fetched when they are first looked at: what was asked for last comes first, some at a time.

import { here } from './address.js';

const AT_ONCE = 64; // as the server allows
const MOST_WANTED = 512; // what was asked for before that is out of sight by now
const KEPT_SHEETS = 32;
const WAIT_MS = 30;
const PAUSE_MS = 5000; // after a request that failed, before the next one

// Tells its listeners by the event `arrived` when there are more pictures, or when there are none and why: `whyNone`.
export class PairPictures extends EventTarget {
  // `url` is /study/SLUG/thumbnails/ARM, `dataHash` that of the pairs which are meant. `problem` is why there are none, where
  // that is known before: then none is asked for. `trouble` is why the last request failed: its pictures may come later.
  constructor(url, dataHash, problem = null) {
    super();
    Object.assign(this, { url, dataHash, places: new Map(), sheets: [], wanted: new Set(), asking: new Set(), problem, trouble: null, resumes: 0 });
  }

  get whyNone() { return this.problem ?? this.trouble; }

  // Of a row of the arm's table: its square in an image, {image, left, side}. Null while it is not here; then it is asked for.
  of(row) {
    const found = this.places.get(row);
    if (found) return found;
    if (!this.problem && !this.asking.has(row)) {
      this.wanted.delete(row); // to the end
      this.wanted.add(row);
      this.timer ??= setTimeout(() => this.ask(), Math.max(WAIT_MS, this.resumes - performance.now()));
    }
    return null;
  }

  // Draws a pair's picture into an element in place of what is in it, once it is here and if the element still is.
  fill(element, row, side) {
    const draw = ({ image, left, side: size }) => {
      const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
      canvas.style.cssText = `width:${side}px;height:${side}px`;
      canvas.getContext('2d').drawImage(image, left, 0, size, size, 0, 0, size, size);
      element.classList.remove('none');
      element.replaceChildren(canvas);
    };
    const found = this.of(row);
    if (found) {
      draw(found);
      return;
    }
    if (this.problem) return;
    const look = () => {
      const here = this.places.get(row);
      if (here) draw(here);
      if (here || this.problem || !element.isConnected) this.removeEventListener('arrived', look);
    };
    this.addEventListener('arrived', look);
  }

  async ask() {
    const newest = [...this.wanted].slice(-MOST_WANTED);
    const rows = newest.splice(-AT_ONCE);
    this.wanted = new Set(newest);
    this.asking = new Set(rows);
    try {
      await this.request(rows);
      this.trouble = null;
    } catch (error) {
      this.trouble = { problem: `The pictures did not load (${error.message}). They are asked for again when others are looked at.`, command: '' };
      this.wanted = new Set([...this.wanted, ...rows]);
      this.resumes = performance.now() + PAUSE_MS;
    }
    this.asking = new Set();
    this.timer = !this.whyNone && this.wanted.size ? setTimeout(() => this.ask(), 0) : null;
    this.dispatchEvent(new Event('arrived'));
  }

  // The app alone knows that there are none: it says so with a 404 and why. Whatever else is no picture may pass.
  async request(rows) {
    const response = await fetch(`${here(this.url)}?rows=${rows.join()}&data=${encodeURIComponent(this.dataHash)}`);
    if (response.ok) {
      this.keep(await createImageBitmap(await response.blob()), rows);
      return;
    }
    const told = await response.json().catch(() => null);
    if (response.status !== 404 || !told?.problem) throw new Error(`the app answered ${response.status}`);
    this.problem = told;
  }

  keep(image, rows) {
    rows.forEach((row, at) => this.places.set(row, { image, left: at * image.height, side: image.height }));
    this.sheets.push(rows);
    if (this.sheets.length > KEPT_SHEETS) this.sheets.shift().forEach((row) => this.places.delete(row));
  }
}
