// Buttons that fill the prompt with a noun of the study, without a round trip.

import { studyShown } from './address.js';
import { node } from './charts.js';

export function mount({ element, props, watch }) {
  const root = element.querySelector('.viewer-root');
  const draw = () => {
    const groups = props.value.study === studyShown() ? props.value.groups : []; // not those of the study that was left
    root.replaceChildren(...(groups.length ? [label('Try')] : []), ...groups.flatMap(group));
  };
  watch('value', draw);
  draw();
}

const label = (text) => node('span', { class: 'chips-label' }, text);

// The marks of the kinds are in `base.css`.
function group({ name, kind, chips }) {
  return [label(name), ...chips.map(([text, prompts]) => node('button', {
    type: 'button', class: `chip ${kind}`, onclick: () => write(prompts[Math.floor(Math.random() * prompts.length)]),
  }, text))];
}

// As if it was typed, so that Gradio learns of it.
function write(prompt) {
  const field = document.querySelector('#prompt textarea, #prompt input');
  field.value = prompt;
  field.dispatchEvent(new Event('input', { bubbles: true }));
}
