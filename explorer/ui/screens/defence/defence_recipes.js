// Filters put together, kept under names, and compared with one another.

import { count, node, number, select } from './charts.js';
import { studyShown } from './address.js';
import { firstFilter, parsed } from './defence_state.js';
import { problemOf } from './defence_data.js';
import { percent } from './defence_charts.js';
import { RadioGroup } from './radio_group.js';

const HOWS = [['any', 'or', 'Removes what at least one of them removes'], ['all', 'and', 'Removes what every one of them removes']];
const button = (label, act, attributes = {}) => node('button', { type: 'button', class: 'plain-button', onclick: act, ...attributes }, label);

// A filter in a few words.
function recipeWords(recipe, set) {
  for (const [how, word] of HOWS) if (recipe[how]) return recipe[how].map((part) => (part.any || part.all ? `(${recipeWords(part, set)})` : recipeWords(part, set))).join(` ${word} `);
  if ('rows' in recipe) return `${count(set.rowsOf(recipe).length)} pairs chosen by hand`;
  const { rank, budget, threshold } = recipe.cut;
  const much = rank !== undefined ? count(rank) : budget !== undefined ? percent(budget, 1) : null;
  const title = set.scores.get(recipe.score).title;
  const limit = recipe.quota === undefined || recipe.quota === null ? '' : `, of a concept ${percent(recipe.quota)} at most`;
  return `${much === null ? `${title} ${recipe.remove === 'lowest' ? 'below' : 'above'} ${Number(threshold.toPrecision(4))}` : `${recipe.remove} ${much} by ${title}`}${limit}`;
}

export class DefenceRecipes {
  constructor(screen) {
    Object.assign(this, { screen, set: screen.set, state: screen.state, place: `explorer-filters-${studyShown()}` });
    this.parts = node('div', { class: 'defence-bar parts', role: 'group', 'aria-label': 'Parts of the filter' });
    this.how = new RadioGroup('Together', HOWS, 'any', (how) => screen.changeFilter({ how }));
    this.names = node('div', { class: 'defence-bar names' });
    this.compared = node('div', { class: 'defence-bar compared' });
    this.element = node('section', { class: 'defence-recipes', 'aria-label': 'Filters together' },
      node('h3', {}, 'Filters together, by name, and compared'), this.parts, this.names, this.compared);
  }

  show() {
    const { parts, active, how } = this.state.filter;
    this.how.show(how);
    this.parts.replaceChildren(...parts.flatMap((part, at) => [
      at ? node('span', { class: 'note' }, HOWS.find(([name]) => name === how)[1]) : null,
      node('span', { class: 'segments' },
        button(recipeWords(part, this.set), () => this.screen.changeFilter({ active: at }), { 'aria-pressed': String(at === active && parts.length > 1), title: 'The slider moves this part' }),
        parts.length > 1 ? button('×', () => this.drop(at), { 'aria-label': `Leave out ${recipeWords(part, this.set)}` }) : null)].filter(Boolean)),
    ...(parts.length > 1 ? [this.how.element] : []), button('Add a filter', () => this.add(), { title: 'Combine with a filter by another score' }));
    const kept = this.kept();
    const saved = this.screen.saved;
    this.names.replaceChildren(button('Keep under a name…', () => this.keep(), { title: 'In this browser' }),
      ...saved.map(({ name, recipe }) => button(name, () => this.open(recipe), { title: 'Saved with the study' })),
      ...Object.keys(kept).map((name) => node('span', { class: 'segments' }, button(name, () => this.open(kept[name])), button('×', () => this.forget(name), { 'aria-label': `Forget ${name}` }))));
    this.showCompared(saved, kept);
  }

  showCompared(saved, kept) {
    const { against } = this.state.filter;
    const { result } = this.screen;
    const named = [...saved.map(({ name, recipe }) => [name, recipe]), ...Object.entries(kept)];
    const choose = select('Compare with', [['', 'compare with…'], ['own', 'this filter as it is now'], ...named.map(([name]) => [`named ${name}`, name])], '', (value) => {
      if (!value) return;
      const usable = value === 'own' ? this.state.recipe : this.usable(named.find(([name]) => `named ${name}` === value)[1]);
      if (usable) this.screen.changeFilter({ against: usable });
    });
    if (!against) { this.compared.replaceChildren(choose); return; }
    const { both, 'only-a': onlyA, 'only-b': onlyB } = result.compared;
    this.compared.replaceChildren(choose, node('span', {}, `B: ${recipeWords(against, this.set)}. `,
      node('strong', {}, `Both remove ${count(both)}; only this one ${count(onlyA)}; only B ${count(onlyB)}`), ` (alike by Jaccard's index: ${number(both / (both + onlyA + onlyB || 1), 2)}).`),
    button('Go over to B', () => { const a = this.state.recipe; this.state.adopt(against); this.screen.changeFilter({ against: a }); }), button('Stop comparing', () => this.screen.changeFilter({ against: null })));
  }

  add() {
    const used = this.state.filter.parts.map(({ score }) => score);
    const next = this.set.header.scores.find(({ name }) => !used.includes(name)) ?? this.set.header.scores[0];
    const { parts } = this.state.filter;
    this.screen.changeFilter({ parts: [...parts, { ...firstFilter(this.set), score: next.name, remove: next.remove }], active: parts.length });
  }

  drop(at) {
    const parts = this.state.filter.parts.filter((_, other) => other !== at);
    this.screen.changeFilter({ parts, active: Math.min(this.state.filter.active, parts.length - 1) });
  }

  // A kept filter, as far as it is one of these pairs and scores.
  usable(recipe) {
    const problem = problemOf(recipe, this.set);
    if (!problem) return this.set.adopted(recipe);
    this.names.append(node('span', { class: 'notice error', role: 'alert' }, `This filter cannot be used here: ${problem} is not known of these pairs.`));
    return null;
  }

  open(recipe) {
    const usable = this.usable(recipe);
    if (!usable) return;
    this.state.adopt(usable);
    this.screen.redraw();
  }

  kept() { return parsed(localStorage.getItem(this.place) ?? '{}') ?? {}; }

  keep() {
    const name = prompt('Name of this filter')?.trim();
    if (!name) return;
    localStorage.setItem(this.place, JSON.stringify({ ...this.kept(), [name]: this.state.recipe }));
    this.show();
  }

  forget(name) {
    const { [name]: _, ...others } = this.kept();
    localStorage.setItem(this.place, JSON.stringify(others));
    this.show();
  }
}
