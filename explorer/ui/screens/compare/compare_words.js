// The prompt's words above the columns: a map of each is shown while it is pointed at, or kept by a click.

import { node } from './charts.js';
import { GUIDANCE } from './compare_kinds.js';

// Nothing while there is no picture.
export function wordsOf(screen) {
  const { first, leftOut, live } = screen;
  if (!first) return [];
  return [
    node('span', { class: 'origin' }, first.origin === 'live' ? 'Live' : 'Precomputed'),
    ...first.words.map((word, index) => wordButton(screen, word, index)),
    node('span', { class: 'hint' }, screen.state.kind === GUIDANCE ? 'guidance is of all words together'
      : node('span', { class: 'pointing' }, 'point at a word to see its map, click to keep it'),
      leftOut && !live ? `; ${screen.ownColumns.length} of ${screen.ownColumns.length + leftOut} models: choose others above and press Generate` : ''),
  ];
}

function wordButton(screen, word, index) {
  const special = index >= screen.first.words.length - 2;
  // What is touched next takes the focus from the word, and would be lost if it were drawn again meanwhile.
  const left = () => setTimeout(() => { if (!screen.words.contains(document.activeElement)) hover(false)(); });
  const hover = (entered) => () => {
    const before = String(screen.rows);
    screen.state.hover = entered ? index : null;
    if (String(screen.rows) !== before) screen.draw();
  };
  const toggle = () => {
    const { pins } = screen.state;
    if (pins.has(index) && pins.size > 1) pins.delete(index); else pins.add(index);
    screen.writeWords();
    screen.changed();
    screen.words.querySelectorAll('button')[index]?.focus();
  };
  const label = special ? `${word.replace(/[[\]]/g, '')} token${word === '[end]' ? ' and padding' : ''}` : word;
  return node('button', {
    type: 'button', class: `word${special ? ' special' : ''}`, 'aria-pressed': String(screen.state.pins.has(index)),
    title: `Show the map of “${label}”`, onmouseenter: hover(true), onmouseleave: hover(false),
    onfocus: hover(true), onblur: left, onclick: toggle,
  }, label);
}
