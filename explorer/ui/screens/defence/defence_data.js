// The training pairs of one arm, with every score that a filter can cut by.

import { fetchPayload } from './charts.js';
import { Columns, fetchBytes } from './columns.js';
import { filterCurve, rowsWhere, suspicionOrder } from './defence_maths.js';
import { decodeRows, encodeRows } from './graph_selection.js';
import { KINDS } from './poison.js';

export const SEPARATES = 0.98; // AUC from which on a score alone tells nearly all of the poison

// `arm` is an entry of the screen's payload.
export async function loadArm(arm) {
  const [header, bytes] = await Promise.all([fetchPayload(arm.header_url), fetchBytes(arm.columns_url)]);
  return new ArmScores(arm, header, bytes);
}

class ArmScores extends Columns {
  constructor(arm, header, bytes) {
    super(header.columns, bytes, (name) => `The scores of ${arm.name} lack ${name}: run the step again.`);
    Object.assign(this, { arm, header, count: header.set.pairs, concepts: header.concepts });
    this.scores = new Map(header.scores.map((score) => [score.name, score]));
    this.kindOf = this.column('kind');
    this.tableRow = this.column('row');
    this.mainConcept = this.column('main_concept');
    this.feature = this.column('feature_distance');
    this.captions = this.texts('caption');
    this.uids = this.texts('uid');
    this.conceptSizes = new Int32Array(this.concepts.length);
    for (const concept of this.mainConcept) if (concept >= 0) this.conceptSizes[concept] += 1;
    this.rankings = new Map();
  }

  // Whether anybody recorded of some pairs that they are poison, and of others that they are not.
  get recorded() { return this.header.set.benign + this.header.set.poisoned > 0; }

  values(score) { return this.column(score); }

  // A score's order of suspicion, with AD's structure part of what remains after each rank; sorted once. The structure
  // part is only kept in the direction that the score is usually read in, and not of every score.
  ranking(score, remove) {
    const key = `${score} ${remove}`;
    if (!this.rankings.has(key)) {
      const values = this.values(score);
      const order = suspicionOrder(values, remove);
      const unscored = rowsWhere(values, Number.isNaN);
      const name = `${score}:kept_structure_ad`;
      const structure = this.scores.get(score).remove === remove && this.columns[name] ? this.column(name) : null;
      this.rankings.set(key, { order, values, remove, count: this.count, unscored, structure });
    }
    return this.rankings.get(key);
  }

  // Each row's place in a ranking, from 0.
  place(score, remove) {
    const ranking = this.ranking(score, remove);
    if (!ranking.place) {
      ranking.place = new Int32Array(this.count).fill(-1);
      ranking.order.forEach((row, at) => { ranking.place[row] = at; });
    }
    return ranking.place;
  }

  // What the curves of a score are drawn from, made once.
  curve(score, remove) {
    const ranking = this.ranking(score, remove);
    ranking.curve ??= filterCurve({ ...ranking, structure: ranking.structure ?? new Float32Array(ranking.order.length + 1).fill(NaN) },
      { kindOf: this.kindOf, feature: this.feature, count: this.count, alpha: this.header.alignment.alpha });
    return ranking.curve;
  }

  // Scores that tell nearly all of the poison by themselves.
  get separating() { return this.header.scores.filter(({ auc }) => auc && auc.value >= SEPARATES); }

  kind(row) { return KINDS[this.kindOf[row]]; }

  caption(row) { return this.captions(row) || '(no caption)'; }

  concept(row) { return this.concepts[this.mainConcept[row]] ?? ''; }

  // What a poisoned pair shows and what its caption claims, where that is recorded.
  poisonWords(row) {
    const [concept, target] = ['poisoned_concept', 'target_concept'].map((column) => this.concepts[this.column(column)[row]]);
    return concept || target ? `poisoned: ${concept ?? 'not recorded'} → ${target ?? 'not recorded'}` : 'poisoned, concept not recorded';
  }

  rowByUid(uid) {
    this.places ??= new Map(Array.from({ length: this.count }, (_, row) => [this.uids(row), row]));
    return this.places.get(uid) ?? -1;
  }

  // A list of pairs as a part of a filter, for addresses: their rows, and which columns these are rows of.
  listed(rows) { return { rows: `${this.arm.stamp}.${encodeRows(rows, this.count)}` }; }

  // The rows of such a part, ascending.
  rowsOf(recipe) {
    this.lists ??= new Map();
    if (!this.lists.has(recipe.rows)) {
      const [stamp, code] = String(recipe.rows).split('.');
      const rows = stamp === this.arm.stamp ? decodeRows(code ?? '', this.count) : null;
      if (!rows?.length) throw new Error('a list of other pairs');
      this.lists.set(recipe.rows, rows);
    }
    return this.lists.get(recipe.rows);
  }

  // A recipe as programs read it: lists of pairs by their names.
  portable(recipe) {
    if (recipe.any) return { any: recipe.any.map((part) => this.portable(part)) };
    if (recipe.all) return { all: recipe.all.map((part) => this.portable(part)) };
    return 'rows' in recipe ? { uids: Array.from(this.rowsOf(recipe), (row) => this.uids(row)) } : recipe;
  }

  // The reverse, of what a program saved; one that `problemOf` finds nothing wrong with.
  adopted(recipe) {
    if (recipe.any) return { any: recipe.any.map((part) => this.adopted(part)) };
    if (recipe.all) return { all: recipe.all.map((part) => this.adopted(part)) };
    return 'uids' in recipe ? this.listed(Int32Array.from(new Set(recipe.uids), (uid) => this.rowByUid(uid)).sort()) : recipe;
  }
}

const CUTS = ['rank', 'budget', 'threshold'];

// What is wrong with a recipe from a link, in words; empty where it can be applied to these pairs.
export function problemOf(recipe, set) {
  const parts = recipe?.any ?? recipe?.all;
  if (parts) return Array.isArray(parts) && parts.length ? parts.map((part) => problemOf(part, set)).find(Boolean) ?? '' : 'a filter without parts';
  if (recipe && 'rows' in recipe) {
    try { set.rowsOf(recipe); } catch (error) { return error.message; }
    return '';
  }
  if (recipe && 'uids' in recipe) {
    const { uids } = recipe;
    if (!Array.isArray(uids) || !uids.length) return 'a list without pairs';
    return uids.every((uid) => set.rowByUid(uid) >= 0) ? '' : 'a list of other pairs';
  }
  if (!recipe?.score) return 'a filter without a score';
  if (!set.scores.has(recipe.score)) return `the score ${recipe.score}`;
  const kind = CUTS.find((name) => Number.isFinite(recipe.cut?.[name]));
  return kind && ['lowest', 'highest'].includes(recipe.remove) ? '' : `a cut of ${recipe.score}`;
}
