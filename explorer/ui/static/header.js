// The thin header: what is loaded, and the switch between dark and light.

import { followScreens } from './address.js';
import { node } from './charts.js';

export function mount({ element, props }) {
  const root = element.querySelector('.viewer-root');
  const facts = props.value;
  const shown = [facts.world, facts.device, facts.checkpoints].filter(Boolean);
  const button = node('button', { class: 'plain-button', type: 'button', id: 'theme-switch', onclick: change });
  root.replaceChildren(
    node('header', { class: 'app-header' },
      node('h1', {}, 'Implosion Explorer'),
      node('p', { class: 'facts' }, shown.map((fact) => node('span', { class: 'fact' }, fact))),
      node('span', { class: 'spacer' }),
      node('span', { class: 'tag benign' }, 'benign'), node('span', { class: 'tag poisoned' }, 'poisoned'), button),
  );
  label();
  followScreens();

  function label() {
    button.textContent = document.body.classList.contains('dark') ? 'Light theme' : 'Dark theme';
  }
  function change() {
    const dark = document.body.classList.toggle('dark');
    localStorage.setItem('explorer-theme', dark ? 'dark' : 'light');
    label();
  }
  new MutationObserver(label).observe(document.body, { attributes: true, attributeFilter: ['class'] });
}
