// One pair large: its picture, caption and every score with its rank, its neighbours on both graphs, and the way to Graphs.

import { studyShown } from './address.js';
import { count, node, number } from './charts.js';
import { showDialog } from './dialogs.js';
import { neighbourList } from './graph_inspector.js';
import { PAIR_KINDS } from './poison.js';

export class PairView {
  constructor(screen) {
    this.screen = screen;
    this.content = node('div', { class: 'pair-content' });
    this.element = node('dialog', { class: 'defence-pair', 'aria-label': 'Pair', onclose: () => this.closed(), onkeydown: (event) => this.key(event), onclick: (event) => { if (event.target === this.element) this.element.close(); } }, this.content);
  }

  open(row) {
    this.row = row;
    this.render();
    showDialog(this.element, this.screen.signal);
  }

  closed() {
    this.screen.state.view.pair = '';
    this.screen.settle();
  }

  // Left and right: the neighbours in the open gallery.
  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const rows = this.screen.gallery.listed;
    const at = rows.indexOf(this.row);
    const next = at < 0 ? rows[0] : rows[at + step];
    if (next !== undefined) this.screen.openPair(next);
  }

  render() {
    const { screen, row } = this;
    const { set, pictures } = screen;
    const kind = screen.state.view.truth ? set.kind(row) : 'unrecorded';
    const known = screen.state.view.truth ? `${PAIR_KINDS[kind].mark} ${screen.gallery.words(row)}` : '';
    const picture = pictures.square(row, 144);
    const near = node('div', { class: 'pair-neighbours' }, node('p', { class: 'note' }, 'Neighbours: loading…'));
    this.content.replaceChildren(
      node('div', { class: 'pair-head' }, picture, node('div', {},
        node('p', { class: 'pair-large-caption' }, `“${set.caption(row)}”`),
        node('p', { class: `kind-badge ${kind}` }, known), node('p', {}, screen.result.mask[row] ? 'The filter removes it.' : 'The filter keeps it.'),
        node('p', { class: 'note' }, [set.uids(row), set.concept(row)].filter(Boolean).join(' · ')),
        set.arm.graphs ? node('a', { class: 'plain-button', href: this.graphsLink() }, 'Open in Graphs') : null),
      node('button', { type: 'button', class: 'plain-button close', autofocus: true, onclick: () => this.element.close() }, 'Close')),
      this.scoreTable(), near);
    pictures.graphs().then((data) => { if (this.row === row) this.renderNeighbours(near, data); }, (error) => { near.replaceChildren(node('p', { class: 'note' }, error.message)); });
  }

  graphsLink() {
    const { set } = this.screen;
    return `?${new URLSearchParams({ study: studyShown(), tab: 'graphs', 'g.set': set.arm.graphs.name, 'g.pair': set.uids(this.row) })}`;
  }

  scoreTable() {
    const { set } = this.screen;
    const lines = set.header.scores.map(({ name, title, remove, words }) => {
      const { order } = set.ranking(name, remove);
      const value = set.values(name)[this.row];
      const place = set.place(name, remove)[this.row];
      return node('tr', {}, node('th', { scope: 'row', title: words }, title), node('td', { class: 'figure' }, number(value, 3)),
        node('td', { class: 'figure' }, Number.isNaN(value) ? 'not known' : `${count(place + 1)} of ${count(order.length)}`));
    });
    return node('table', { class: 'inspector-scores' }, node('thead', {}, node('tr', {}, ['Score', 'Value', 'Suspicion'].map((head) => node('th', { scope: 'col', title: head === 'Suspicion' ? '1 is the most suspicious' : null }, head)))),
      node('tbody', {}, lines));
  }

  renderNeighbours(root, data) {
    const { screen } = this;
    if (!data) {
      root.replaceChildren(node('p', { class: 'note' }, 'Its neighbours are shown once the graphs of this arm are drawn: ', node('code', {}, screen.graphsCommand)));
      return;
    }
    const drawn = data.rowByUid.get(screen.set.uids(this.row));
    if (drawn === undefined) {
      root.replaceChildren(node('p', { class: 'note' }, 'This pair is not among those that Graphs draws.'));
      return;
    }
    const seen = screen.state.view.truth ? data : Object.assign(Object.create(data), { kind: () => 'unrecorded', words: () => 'what it is is hidden' });
    const [text, image] = ['text', 'image'].map((side) => data.neighbours(side, drawn));
    const shared = new Set(text.filter((other) => image.includes(other)));
    const open = (other) => screen.openPair(screen.set.rowByUid(data.uids(other)));
    root.replaceChildren(node('p', { class: 'note' }, `The two graphs agree on ${shared.size || 'none'} of its ${text.length} neighbours.`),
      neighbourList('Nearest by caption', seen, 'text', drawn, shared, open), neighbourList('Nearest by picture', seen, 'image', drawn, shared, open));
  }
}
