// One set's pairs as typed arrays: what `explorer/alignment/graph_files.py` wrote, read without parsing.

import { here } from './address.js';
import { fetchPayload } from './charts.js';
import { Columns, fetchBytes } from './columns.js';
import { PairPictures } from './pair_pictures.js';
import { KINDS, PAIR_KINDS } from './poison.js';
import { PointGrid } from './point_grid.js';

export const SIDES = ['text', 'image'];
export const SCORE_WORDS = {
  feature_distance: ['D_img:txt', 'feature distance of caption and picture'],
  structure_distance: ['D_s', 'structure distance: how differently caption and picture see all other pairs'],
  sample_ad: ['AD(x,y)', 'alignment difficulty of this pair'],
  loss: ['Loss', 'mean squared error of a denoiser’s prediction'],
};
export const scoreLabel = (name) => SCORE_WORDS[name]?.[0] ?? name;

// `set` is an entry of the screen's payload: where the header, the columns and the thumbnails are.
export async function loadPairs(set) {
  const [header, bytes, sheet] = await Promise.all([
    fetchPayload(set.header_url), fetchBytes(set.columns_url), set.thumbnails_url ? loadImage(set.thumbnails_url) : null]);
  return new Pairs(set, header, bytes, sheet);
}

function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(`The thumbnails (${url}) did not load.`));
    image.src = here(url);
  });
}

export class Pairs extends Columns {
  constructor(set, header, bytes, sheet) {
    super(header.columns, bytes, (name) => `The columns of ${set.name} lack ${name}: draw its graphs again.`);
    Object.assign(this, { set, header, sheet });
    this.count = header.sampling.pairs;
    this.scoreNames = header.scores;
    this.scores = Object.fromEntries(header.scores.map((name) => [name, this.column(name)]));
    this.ranks = Object.fromEntries(header.scores.map((name) => [name, [this.column(`${name}_rank`), this.column(`${name}_rank_last`)]]));
    this.kindOf = this.column('kind');
    this.mainConcept = this.column('main_concept');
    this.thumbnail = sheet ? this.column('thumbnail') : null;
    this.armRow = header.columns.row ? this.column('row') : null; // graphs of earlier releases have none
    this.pictures = this.armRow ? new PairPictures(set.pictures_url, header.facts.data_hash ?? '', set.no_pictures) : null;
    this.captions = this.texts('caption');
    this.uids = this.texts('uid');
    this.sides = Object.fromEntries(SIDES.map((side) => {
      const layout = this.column(`${side}_layout`);
      const neighbours = this.column(`${side}_neighbours`);
      return [side, { layout, neighbours, similarities: this.column(`${side}_similarities`), grid: new PointGrid(layout) }];
    }));
    this.kindCounts = [0, 0, 0];
    for (const kind of this.kindOf) this.kindCounts[kind] += 1;
  }

  // A pair's square in an image, {image, left, top, side}; null while there is none.
  picture(row) {
    const cell = this.thumbnail?.[row] ?? -1;
    if (cell < 0) {
      const found = this.pictures?.of(this.armRow[row]);
      return found ? { ...found, top: 0 } : null;
    }
    const { size, columns } = this.header.thumbnails;
    return { image: this.sheet, left: (cell % columns) * size, top: Math.floor(cell / columns) * size, side: size };
  }

  // How many pairs of the set are not among these.
  get undrawn() { return this.header.set.pairs - this.count; }

  kind(row) { return KINDS[this.kindOf[row]]; }

  kindNumber(kind) { return KINDS.indexOf(kind); }

  // The kinds that pairs can be told apart by: none is counted, not even as 0, of which nothing is known.
  kinds() {
    const [benign, poisoned, unrecorded] = this.kindCounts;
    return [...(benign + poisoned ? ['poisoned', 'benign'] : []), ...(unrecorded ? ['unrecorded'] : [])];
  }

  caption(row) { return this.captions(row) || '(no caption)'; }

  concept(row) { return this.header.concepts[this.mainConcept[row]] ?? ''; }

  words(row) {
    const kind = this.kind(row);
    if (kind !== 'poisoned') return PAIR_KINDS[kind].words;
    const named = (column) => this.header.concepts[this.column(column)[row]];
    const [concept, target] = [named('poisoned_concept'), named('target_concept')];
    return concept || target ? `poisoned: ${concept ?? 'not recorded'} → ${target ?? 'not recorded'}` : 'poisoned, concept not recorded';
  }

  conceptsOf(row) {
    const [ids, ends] = [this.column('concepts'), this.column('concepts_ends')];
    return Array.from(ids.subarray(row ? ends[row - 1] : 0, ends[row]), (id) => this.header.concepts[id]);
  }

  neighbours(side, row) {
    const k = this.header.neighbour_count;
    return this.sides[side].neighbours.subarray(row * k, (row + 1) * k);
  }

  similarity(side, row, at) { return this.sides[side].similarities[row * this.header.neighbour_count + at]; }

  // What the text filter looks in: caption, concepts and uid of every pair, in lower case.
  searched() {
    this.haystack ??= Array.from({ length: this.count }, (_, row) =>
      `${this.uids(row)} ${this.captions(row)} ${this.conceptsOf(row).join(' ')}`.toLowerCase());
    return this.haystack;
  }

  rowOf(uid) {
    for (let row = 0; row < this.count; row += 1) if (this.uids(row) === uid) return row;
    return -1;
  }

  // Every edge once, as drawn on one side: its two ends, and its cosine.
  edges(side) {
    const found = this.sides[side];
    if (found.edges) return found.edges;
    const k = this.header.neighbour_count;
    const ends = new Uint32Array(this.count * k * 2);
    const weights = new Float32Array(this.count * k);
    let size = 0;
    for (let row = 0; row < this.count; row += 1) {
      const own = this.neighbours(side, row);
      for (let at = 0; at < k; at += 1) {
        const other = own[at];
        if (other < 0 || (other < row && this.neighbours(side, other).includes(row))) continue;
        ends[2 * size] = row;
        ends[2 * size + 1] = other;
        weights[size] = this.similarity(side, row, at);
        size += 1;
      }
    }
    found.edges = { ends: ends.subarray(0, 2 * size), weights: weights.subarray(0, size) };
    return found.edges;
  }
}
