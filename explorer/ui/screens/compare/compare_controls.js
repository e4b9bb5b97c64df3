// The bar above the columns: what of the stored attention is shown, and how.

import { replaceAddress } from './address.js';
import { node } from './charts.js';
import { ATTENTION, KINDS } from './compare_kinds.js';
import { PICTURES } from './compare_given.js';
import { Legend } from './compare_legend.js';
import { saveComparison } from './compare_saved.js';
import { RadioGroup } from './radio_group.js';

const VIEWS = [['map', 'Map'], ['overlay', 'Overlay', 'Map over the picture'],
  ['difference', 'Difference', 'Map less the map of the first column']];
const SCALES = [['absolute', 'Shared scale', 'One colour scale for all columns: a weak map looks weak'],
  ['map', 'Per map', 'Each map stretched to its own maximum: shape only']];

export class Controls {
  constructor(screen) {
    this.screen = screen;
    const set = (name) => (event) => { screen.state[name] = Number(event.target.value); this.changed(); };
    this.step = node('input', { type: 'range', min: 0, max: 0, value: 0, id: 'step-slider', oninput: set('step') });
    this.stepName = node('span', {}, 'Denoising step');
    this.stepText = node('output', { for: 'step-slider' });
    this.layer = node('select', { class: 'plain-select', id: 'layer-select', onchange: (event) => this.layerChanged(event) });
    this.head = node('select', { class: 'plain-select', id: 'head-select', onchange: set('head') });
    const choose = (name) => (value) => { screen.state[name] = value; this.changed(); };
    this.kinds = new RadioGroup('Kind of map', KINDS, screen.state.kind, (kind) => { screen.state.kind = kind; screen.kindChanged(); });
    this.pictures = new RadioGroup('Picture', PICTURES, screen.state.on, (on) => { screen.state.on = on; screen.given.retry(); screen.picturesChanged(); });
    this.views = new RadioGroup('View', VIEWS, screen.state.view, choose('view'));
    this.scales = new RadioGroup('Scale', SCALES, screen.state.scale, choose('scale'));
    this.legend = new Legend();
    const button = (text, title, action, label) => node('button', { type: 'button', class: 'plain-button', title, 'aria-label': label, onclick: action }, text);
    this.copy = button('Copy link', 'Copy a link to these settings', () => this.copyLink());
    this.attentionOnly = [node('label', { class: 'field' }, 'Layer', this.layer), node('label', { class: 'field' }, 'Head', this.head)];
    this.element = node('div', { class: 'compare-controls' },
      this.kinds.element, this.pictures.element, node('label', { class: 'field' }, this.stepName, this.step, this.stepText),
      ...this.attentionOnly, this.views.element, this.scales.element,
      this.legend.element,
      node('span', { class: 'spacer' }),
      node('span', { class: 'segments', role: 'group', 'aria-label': 'Zoom of all pictures' },
        button('−', 'Zoom out (or ctrl and wheel over a picture)', () => screen.zoomBy(1 / 1.5), 'Zoom out'),
        button('+', 'Zoom in (or ctrl and wheel over a picture; drag, or arrow keys on a picture, move it)', () => screen.zoomBy(1.5), 'Zoom in'),
        button('1:1', 'Whole picture', () => screen.zoomBy(0), '1:1, the whole picture')),
      button('Swap A/B', 'Swap the columns marked A and B (key A or B)', () => screen.swap()),
      this.copy, button('Save PNG', 'Save the columns with their settings inside', () => saveComparison(screen, 'png')),
      button('Save JSON', 'Save settings, what is known of the models, and the numbers shown', () => saveComparison(screen, 'json')));
    this.fit(null, true); // the first pictures are on their way
  }

  // The next kind of map, by a key: in talk mode there are no buttons.
  nextKind() {
    const kinds = KINDS.map(([kind]) => kind);
    this.screen.state.kind = kinds[(kinds.indexOf(this.screen.state.kind) + 1) % kinds.length];
    this.screen.kindChanged();
  }

  changed() {
    this.write();
    this.screen.changed();
  }

  layerChanged(event) {
    [this.screen.state.stack, this.screen.state.layer] = event.target.value.split('.').map(Number);
    this.fit(this.screen.first);
    this.screen.changed();
  }

  // Offer the steps, layers and heads that `column` holds; null while there is none. Where one is `coming` its room is kept.
  fit(column, coming = false) {
    this.element.hidden = !column && !coming;
    this.element.classList.toggle('coming', !column && coming);
    if (!column) return;
    const { state } = this.screen;
    state.stack = Math.min(state.stack, column.stacks.length - 1);
    const [steps, layers, heads] = column.stacks[state.stack].shape;
    Object.assign(state, { step: Math.min(state.step, steps - 1), layer: Math.min(state.layer, layers - 1), head: Math.min(state.head, heads - 1) });
    this.step.max = steps - 1;
    this.layer.replaceChildren(...column.stacks.flatMap((stack, at) => layerOptions(stack, at)));
    const headNames = Array.from({ length: heads }, (_, at) => (at ? `head ${at}` : 'mean'));
    this.head.replaceChildren(...headNames.map((text, at) => node('option', { value: at }, text)));
    this.head.disabled = heads === 1;
    this.head.title = heads === 1 ? 'Too many maps to keep every head: only their mean was kept.' : '';
    this.write();
  }

  write() {
    const { state } = this.screen;
    this.step.value = state.step;
    const { timesteps, given_pictures: offered } = this.screen.first;
    this.stepName.textContent = timesteps.length ? 'Noise level' : 'Denoising step';
    this.stepText.textContent = timesteps.length ? (state.step ? `t = ${timesteps[state.step - 1]}` : 'all levels')
      : state.step ? `${state.step} of ${this.step.max}` : 'all steps';
    this.step.setAttribute('aria-valuetext', this.stepText.textContent);
    this.layer.value = `${state.stack}.${state.layer}`;
    this.head.value = state.head;
    this.kinds.show(state.kind);
    this.pictures.show(state.on);
    this.pictures.element.hidden = !offered;
    for (const label of this.attentionOnly) label.hidden = state.kind !== ATTENTION; // no other map has layers and heads
    this.views.show(state.view);
    this.scales.show(state.scale);
  }

  // Which of the maps that are there are shown, as names and values.
  chosen() {
    const said = (select) => select.selectedOptions[0]?.textContent ?? '';
    const step = [this.stepName.textContent, this.stepText.textContent];
    return this.screen.state.kind === ATTENTION ? [step, ['Layer', said(this.layer)], ['Head', said(this.head)]] : [step];
  }

  async copyLink() {
    const link = location.origin + this.screen.link();
    replaceAddress(link);
    try {
      await navigator.clipboard.writeText(link);
      this.copy.textContent = 'Copied';
    } catch (error) {
      this.copy.textContent = 'Link is in the address bar';
    }
    setTimeout(() => { this.copy.textContent = 'Copy link'; }, 2500);
  }
}

function layerOptions(stack, at) {
  const [, , , , height, width] = stack.shape;
  const size = `${height}×${width}`;
  const names = [`${size}, mean of ${stack.layers.length}`, ...stack.layers.map((name) => `${size} ${shortName(name)}`)];
  return names.map((text, index) => node('option', { value: `${at}.${index}` }, text));
}

// "down_blocks.0.attentions.1.transformer_blocks.0.attn2" is "down 0.1 attn2" to a reader; of the deeper transformers of
// SDXL the block is named too.
function shortName(name) {
  const parts = name.match(/^(down|mid|up)_block(?:s\.(\d+))?\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.(attn\d)$/);
  if (!parts) return name;
  const [, part, index, attention, block, kind] = parts;
  return `${part}${index === undefined ? '' : ` ${index}`}.${attention}${block === '0' ? '' : ` block ${block}`} ${kind}`;
}
