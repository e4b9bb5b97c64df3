// Talk mode: the page's head, tabs and settings are out of the way, and a screen's pictures have all the room. It is
// begun by a button or the keys F and T on a screen that offers it, is in the address (`s.talk=1`), and ends with Escape.

import { STUDY_CHANGED, readChoices, writeChoices } from './address.js';
import { node, whenVisible } from './charts.js';

export const TALK_CHANGED = 'explorer-talk';
export const TALK_LEAVING = 'explorer-talk-leaving'; // by Escape; who prevents it has something of its own to fold away first

export const talking = () => document.body.classList.contains('talk');

// Not a screen's own to hear: its signal has ended by then.
window.addEventListener(STUDY_CHANGED, () => {
  document.body.classList.remove('talk');
  if (document.fullscreenElement) document.exitFullscreen();
});

// A button for a screen's bar. `element` is what talk mode shows of the screen, and what is told of a change by an event
// TALK_CHANGED; where the address asks for it, it begins as soon as the element is seen. `signal` ends the screen.
export function talkButton(element, signal) {
  const button = node('button', { type: 'button', class: 'plain-button talk-button', onclick: () => toggle() });
  const label = () => {
    button.textContent = talking() ? 'End talk mode' : 'Talk mode';
    button.title = talking() ? 'Back to the whole page (Escape)' : 'Only the pictures, as large as the screen allows; arrow keys walk, Escape ends (key F or T)';
  };
  const change = (wanted) => {
    document.body.classList.toggle('talk', wanted);
    writeChoices('s', { talk: wanted ? 1 : 0 }, { talk: 0 });
    if (!wanted && document.fullscreenElement) document.exitFullscreen();
    element.dispatchEvent(new Event(TALK_CHANGED));
    label();
  };
  const leave = () => { if (element.dispatchEvent(new Event(TALK_LEAVING, { cancelable: true }))) change(false); };
  const toggle = () => {
    const wanted = !talking();
    // A browser may refuse to fill the screen; the page's own window is filled all the same.
    if (wanted) document.documentElement.requestFullscreen?.().catch(() => {});
    change(wanted);
  };
  const seen = () => Boolean(element.offsetParent);
  document.addEventListener('keydown', (event) => {
    if (!seen() || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === 'Escape' && talking()) { leave(); return; }
    if (event.target.closest?.('input, textarea, select, [contenteditable]')) return;
    if (['f', 't'].includes(event.key.toLowerCase())) { event.preventDefault(); toggle(); }
  }, { signal });
  // Escape ends a full screen without telling the page of the key.
  document.addEventListener('fullscreenchange', () => { if (!document.fullscreenElement && talking() && seen()) leave(); }, { signal });
  window.addEventListener('popstate', () => { if (talking() && seen()) change(false); }, { signal }); // Back leads elsewhere
  whenVisible(element).then(() => { if (!signal.aborted && readChoices('s').talk === '1' && !talking()) change(true); });
  label();
  return button;
}
