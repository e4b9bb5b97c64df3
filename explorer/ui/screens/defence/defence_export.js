// The filter's answer as files that a training pipeline reads, the filter itself, and the commands that go on from there.
// What goes and what stays is worked out again by the app, by the same library as on the command line.

import { ofStudy } from './address.js';
import { download, node, select, showProblem } from './charts.js';
import { saveBlob } from './png.js';

const FORMS = [['parquet', 'parquet'], ['csv', 'CSV'], ['json', 'JSON'], ['npy', 'DataComp .npy (uids)']];
const SIDES = [['kept', 'what stays'], ['removed', 'what goes']];

export class DefenceExport {
  constructor(screen) {
    Object.assign(this, { screen, which: 'kept' });
    this.problem = node('div', {});
    this.code = node('code', {});
    this.copy = node('button', { type: 'button', class: 'plain-button', onclick: () => this.copyCommand() }, 'Copy');
    this.saving = select('Save as', [['', 'Save as…'], ...FORMS], '', (form) => this.save(form));
    this.element = node('section', { class: 'defence-export', 'aria-label': 'Take it with you' }, node('h3', {}, 'Take it with you'),
      node('div', { class: 'defence-bar' }, select('Pairs to save', SIDES, 'kept', (which) => { this.which = which; this.show(); }), this.saving,
        node('button', { type: 'button', class: 'plain-button', onclick: () => this.saveRecipe() }, 'Save the filter (JSON)'),
        screen.set.arm.graphs ? node('button', { type: 'button', class: 'plain-button', onclick: () => this.showOnGraphs() }, 'Show what goes on Graphs') : null),
      node('p', { class: 'note' }, 'With the filter saved as filter.json, this trains a model on what stays:'),
      node('div', { class: 'command' }, this.code, this.copy), this.problem);
  }

  show() {
    this.code.textContent = this.screen.set.arm.command;
    this.problem.replaceChildren(); // it was said of another filter
  }

  async showOnGraphs() {
    this.problem.replaceChildren();
    try {
      const link = await this.screen.graphsLink();
      if (link) location.assign(link);
      else this.problem.replaceChildren(node('p', { class: 'note', role: 'status' }, this.screen.result.removed ? 'None of the pairs that go is among those that Graphs draws.' : 'Nothing goes: there is nothing to show.'));
    } catch (error) {
      showProblem(this.problem, 'What goes cannot be shown on Graphs', error, () => this.showOnGraphs());
    }
  }

  address(form) {
    const { set, state } = this.screen;
    return `${ofStudy(`/export/filter.${form}`)}&${new URLSearchParams({ arm: set.arm.name, stamp: set.arm.stamp, recipe: JSON.stringify(state.recipe), which: this.which })}`;
  }

  async save(form) {
    this.saving.value = '';
    if (!form) return;
    this.problem.replaceChildren();
    try {
      const response = await fetch(this.address(form));
      if (!response.ok) throw new Error(await response.text());
      saveBlob(await response.blob(), `${this.which}-pairs.${form}`);
    } catch (error) {
      showProblem(this.problem, 'The pairs were not saved', error, () => this.save(form));
    }
  }

  saveRecipe() { download('filter.json', this.screen.set.portable(this.screen.state.recipe)); }

  async copyCommand() {
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.copy.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(this.code);
    }
  }
}
