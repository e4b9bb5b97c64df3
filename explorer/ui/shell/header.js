// The thin header: what is loaded, and the switch between dark and light.

import { followScreens } from './address.js';
import { node } from './charts.js';

export function mount({ element, props, watch }) {
  const root = element.querySelector('.viewer-root');
  const facts = node('p', { class: 'facts' });
  const button = node('button', { class: 'plain-button', type: 'button', id: 'theme-switch', onclick: change });
  root.replaceChildren(
    node('header', { class: 'app-header' },
      node('h1', {}, 'Implosion Explorer'),
      facts,
      node('span', { class: 'spacer' }),
      node('span', { class: 'tag benign' }, 'benign'), node('span', { class: 'tag poisoned' }, 'poisoned'), button),
  );
  label();
  tell();
  watch('value', tell);
  followScreens();

  function tell() {
    const { world, device, checkpoints } = props.value;
    facts.replaceChildren(...[world, device, checkpoints].filter(Boolean).map((fact) => node('span', { class: 'fact' }, fact)));
  }
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
