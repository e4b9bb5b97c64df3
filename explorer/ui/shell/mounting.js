// Mounts a viewer's module, and mounts it anew in a fresh root whenever the page goes to another study, so that nothing of
// one study is left in what shows the next.

import { STUDY_CHANGED } from './address.js';

export function mountAnew(module, given) {
  const { element, watch } = given;
  const fresh = element.querySelector('.viewer-root').cloneNode(true);
  let mounted = null;
  const mount = () => {
    mounted?.abort();
    const { signal } = mounted = new AbortController();
    const watched = (names, callback) => watchUntil(signal, watch, names, callback);
    module.mount({ ...given, watch: watched, signal });
  };
  mount();
  if (module.STAYS) return;
  window.addEventListener(STUDY_CHANGED, () => {
    element.querySelector('.viewer-root').replaceWith(fresh.cloneNode(true));
    mount();
  });
}

// Gradio watches for ever: of a viewer that is gone nothing must be drawn, nor be kept by what still waits for a change.
function watchUntil(signal, watch, names, callback) {
  signal.addEventListener('abort', () => { callback = null; });
  watch(names, () => callback?.());
}
