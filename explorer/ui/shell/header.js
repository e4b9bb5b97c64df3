// The thin header: which study is shown and what of it is loaded, the chooser of the studies, and the switch between dark
// and light.

import { STUDY_CHANGED, chooseStudy, followScreens, studyShown } from './address.js';
import { node } from './charts.js';
import { openTerms } from './terms.js';
import { tourButton } from './tour.js';

export const STAYS = true; // a change of study changes its words, not the element that has the focus

export function mount({ element, props, trigger, watch }) {
  const root = element.querySelector('.viewer-root');
  const facts = node('p', { class: 'facts' });
  const chooser = node('select', { class: 'plain-select', id: 'study-chooser', 'aria-label': 'Study', onchange: () => chooseStudy(chooser.value) });
  const button = node('button', { class: 'plain-button', type: 'button', id: 'theme-switch', onclick: change });
  root.replaceChildren(
    node('header', { class: 'app-header' },
      node('h1', {}, 'Implosion Explorer'),
      chooser, facts,
      node('span', { class: 'spacer' }),
      node('span', { class: 'tag benign' }, 'benign'), node('span', { class: 'tag poisoned' }, 'poisoned'), tourButton(), button),
  );
  label();
  tell();
  watch('value', tell);
  openTerms();
  followScreens();
  window.addEventListener(STUDY_CHANGED, () => { tell(); trigger('study'); });

  function tell() {
    const { slug, studies, device, checkpoints } = props.value;
    const shown = studyShown();
    const known = studies.find((study) => study.slug === shown);
    chooser.hidden = studies.length === 1 && Boolean(known);
    chooser.replaceChildren(
      ...(known ? [] : [node('option', { value: shown, disabled: true }, 'not here')]),
      ...studies.map((study) => node('option', { value: study.slug }, study.name)));
    chooser.value = shown;
    chooser.title = known?.name ?? '';
    // Until the answer comes, the count is that of the study that was left.
    const said = [chooser.hidden ? known.name : '', device, shown === slug ? checkpoints : ''].filter(Boolean);
    facts.replaceChildren(...said.map((fact) => node('span', { class: 'fact', title: fact }, fact)));
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
