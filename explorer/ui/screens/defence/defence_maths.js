// What a filter removes, and what that costs: no drawing, nothing of the page. Rows are places in the columns of one arm.
// `explorer/defence` says the same of a recipe; a test compares the two.

export const BENIGN = 0;
export const POISONED = 1;
const MOST_POINTS = 400; // of a curve that is drawn
const DIGIT = 11; // bits that are sorted by at once: three times for 32
const ROUNDING = 1e-12; // as in `explorer/core/intervals.py`

// Rows whose score is known, the most suspicious first; equal scores by row. Sorted digit by digit, since a million
// comparisons take seconds.
export function suspicionOrder(values, remove) {
  let rows = rowsWhere(values, (value) => !Number.isNaN(value));
  let keys = sortableBits(rows, values, remove === 'highest');
  for (let shift = 0; shift < 32; shift += DIGIT) {
    const places = new Uint32Array(2 ** DIGIT + 1); // after the counts of each digit: where the next row of it goes
    const last = 2 ** DIGIT - 1;
    for (let at = 0; at < keys.length; at += 1) places[((keys[at] >>> shift) & last) + 1] += 1;
    for (let at = 1; at < places.length; at += 1) places[at] += places[at - 1];
    const [sortedRows, sortedKeys] = [new Int32Array(rows.length), new Uint32Array(rows.length)];
    for (let at = 0; at < keys.length; at += 1) {
      const place = places[(keys[at] >>> shift) & last]++;
      sortedRows[place] = rows[at];
      sortedKeys[place] = keys[at];
    }
    [rows, keys] = [sortedRows, sortedKeys];
  }
  return rows;
}

// Whole numbers that are ordered as the values at `rows`, or the other way round: made of the bits of the floats.
function sortableBits(rows, values, reverse) {
  const floats = new Float32Array(rows.length);
  const bits = new Uint32Array(floats.buffer);
  for (let at = 0; at < rows.length; at += 1) {
    floats[at] = values[rows[at]] + 0; // -0 is 0
    const ascending = bits[at] >>> 31 ? ~bits[at] : bits[at] | 0x80000000;
    bits[at] = reverse ? ~ascending : ascending;
  }
  return bits;
}

// The rows whose value is wanted, ascending.
export function rowsWhere(values, wanted) {
  const rows = new Int32Array(values.length);
  let size = 0;
  for (let row = 0; row < values.length; row += 1) if (wanted(values[row])) rows[size++] = row;
  return rows.slice(0, size);
}

// The whole number of pairs that a share of them is: 29 of 100 for .29, whose product in binary is just below.
const wholePart = (share, count) => Math.floor(share * count * (1 + ROUNDING));

// How many of the order a cut removes, at most all of it. `count`: pairs of the arm. A threshold itself stays.
export function cutRank(cut, { order, values, remove, count }) {
  if ('rank' in cut) return Math.min(order.length, Math.max(0, cut.rank));
  if ('budget' in cut) return Math.min(order.length, Math.max(0, wholePart(cut.budget, count)));
  const threshold = Math.fround(cut.threshold); // scores are of 32 bits, and so is what they are compared with
  let [low, high] = [0, order.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const value = values[order[middle]];
    if (remove === 'lowest' ? value < threshold : value > threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The cut of the same kind that removes `rank` pairs, or as near as that kind can come to it.
export function cutAt(rank, kind, { order, values, remove, count }) {
  if (kind === 'rank') return { rank };
  if (kind === 'budget') return { budget: leastShare(rank, count) };
  if (rank < order.length) return { threshold: values[order[rank]] };
  const last = values[order[order.length - 1]];
  const beyond = Math.abs(last) * 1e-6 + 1e-9;
  return { threshold: remove === 'lowest' ? last + beyond : last - beyond };
}

// A short share whose product with `count` is at least `rank` and below the next whole number.
function leastShare(rank, count) {
  for (let digits = 2; digits < 16; digits += 1) {
    const share = Math.ceil((rank / count) * 10 ** digits) / 10 ** digits;
    if (wholePart(share, count) === rank) return share;
  }
  return (rank + 0.5) / count;
}

// Pairs that stay although they have the score of one that goes.
export function tiedAtCut(rank, { order, values }) {
  let at = rank;
  while (rank && at < order.length && values[order[at]] === values[order[rank - 1]]) at += 1;
  return at - rank;
}

// 1 for each row that a recipe removes. `set` gives `count`, `ranking(score, remove)`, `mainConcept`, `conceptSizes`
// and `rowsOf(recipe)` for a list of pairs.
export function removedBy(recipe, set) {
  const parts = recipe.any ?? recipe.all;
  if (parts) {
    const masks = parts.map((part) => removedBy(part, set));
    return masks[0].map((_, row) => (recipe.any ? masks.some((mask) => mask[row]) : masks.every((mask) => mask[row])) ? 1 : 0);
  }
  const mask = new Uint8Array(set.count);
  if (!('score' in recipe)) {
    for (const row of set.rowsOf(recipe)) mask[row] = 1;
    return mask;
  }
  const ranking = set.ranking(recipe.score, recipe.remove);
  const rank = cutRank(recipe.cut, ranking);
  const left = (recipe.quota ?? null) === null ? null : set.conceptSizes.map((size) => wholePart(recipe.quota, size));
  for (let at = 0; at < rank; at += 1) {
    const row = ranking.order[at];
    const concept = set.mainConcept[row];
    if (left && concept >= 0 && left[concept]-- <= 0) continue;
    mask[row] = 1;
  }
  return mask;
}

// How many pairs of each kind go and stay.
export function tally(mask, kindOf) {
  const removed = [0, 0, 0];
  const all = [0, 0, 0];
  for (let row = 0; row < mask.length; row += 1) {
    all[kindOf[row]] += 1;
    removed[kindOf[row]] += mask[row];
  }
  return { removed, kept: all.map((size, kind) => size - removed[kind]), all };
}

const share = (part, whole) => (whole ? part / whole : NaN);

// Of pairs whose kind is recorded; NaN where there is nothing to divide by.
export function grade({ caught, missed, lost, spared }) {
  const [precision, recall] = [share(caught, caught + lost), share(caught, caught + missed)];
  return {
    poison_removed: recall, benign_lost: share(lost, lost + spared), precision, recall,
    f1: share(2 * caught, 2 * caught + lost + missed),
  };
}

export function cellsOf({ removed, kept }) {
  return { caught: removed[POISONED], missed: kept[POISONED], lost: removed[BENIGN], spared: kept[BENIGN] };
}

// Mean of `values` over the rows that stay; NaN where none does.
export function keptMean(mask, values) {
  let [sum, kept] = [0, 0];
  for (let row = 0; row < mask.length; row += 1) {
    if (mask[row]) continue;
    sum += values[row];
    kept += 1;
  }
  return share(sum, kept);
}

// Along a ranking, at `MOST_POINTS` ranks at most: what has gone by then, and AD of what remains with its parts.
export function filterCurve({ order, values, structure }, { kindOf, feature, count, alpha }) {
  const totals = [0, 0, 0];
  let featureLeft = 0;
  for (let row = 0; row < count; row += 1) {
    totals[kindOf[row]] += 1;
    featureLeft += feature[row];
  }
  const removed = [0, 0, 0];
  const step = Math.max(1, Math.floor(order.length / MOST_POINTS));
  const points = [];
  let due = true;
  for (let rank = 0; rank <= order.length; rank += 1) {
    if (rank) {
      removed[kindOf[order[rank - 1]]] += 1;
      featureLeft -= feature[order[rank - 1]];
    }
    due ||= rank % step === 0;
    // Equal scores are in no particular order: a curve has no point within them.
    if (rank !== order.length && (!due || (rank && values[order[rank]] === values[order[rank - 1]]))) continue;
    due = false;
    const featureAd = rank < count ? featureLeft / (count - rank) : NaN;
    points.push({
      rank, removed: rank / count, lost: share(removed[BENIGN], totals[BENIGN]), caught: share(removed[POISONED], totals[POISONED]),
      precision: share(removed[POISONED], removed[BENIGN] + removed[POISONED]), ad: alpha * featureAd + (1 - alpha) * structure[rank],
    });
  }
  return points;
}

// A curve's value of `y` as far along as its `x`, which never falls, is at most `value`; NaN where it never is.
export function valueAt(points, x, y, value) {
  const after = points.findIndex((point) => !(point[x] <= value));
  return points.at(after < 0 ? -1 : after - 1 < 0 ? points.length : after - 1)?.[y] ?? NaN;
}

// Rows from the cut outwards, by turns the last that goes and the first that stays; those without a score last.
export function borderlineFirst({ order, unscored }, rank) {
  const rows = new Int32Array(order.length + unscored.length);
  let [size, down, up] = [0, rank - 1, rank];
  while (down >= 0 || up < order.length) {
    if (down >= 0) rows[size++] = order[down--];
    if (up < order.length) rows[size++] = order[up++];
  }
  rows.set(unscored, size);
  return rows;
}

// Per main concept: those of its pairs that `counts` (a function of the kind) counts, and how many of them go; by the share
// that goes, then by size.
export function collateral(mask, { mainConcept, kindOf, concepts }, counts) {
  const sizes = new Int32Array(concepts.length);
  const lost = new Int32Array(concepts.length);
  const counted = [0, 1, 2].map(counts);
  for (let row = 0; row < mask.length; row += 1) {
    if (mainConcept[row] < 0 || !counted[kindOf[row]]) continue;
    sizes[mainConcept[row]] += 1;
    lost[mainConcept[row]] += mask[row];
  }
  return Array.from(sizes, (size, concept) => ({ concept, size, lost: lost[concept], share: lost[concept] / size }))
    .filter(({ size }) => size)
    .sort((first, second) => second.share - first.share || second.size - first.size || first.concept - second.concept);
}
