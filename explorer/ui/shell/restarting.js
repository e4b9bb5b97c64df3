// What a screen shows can be begun anew: for another arm, or by "Try again".

import { showProblem } from './charts.js';

// A function that calls `begin(signal, ...given)`. Each call ends the `signal` of the one before, so that what comes too
// late is neither drawn (`signal.throwIfAborted()` after what was waited for) nor goes on listening; `signal` ends all.
export function restartable(root, title, signal, begin) {
  let last = null;
  const start = async (...given) => {
    last?.abort();
    if (signal.aborted) return;
    const own = last = new AbortController();
    signal.addEventListener('abort', () => own.abort(), { signal: own.signal });
    try {
      await begin(own.signal, ...given);
    } catch (error) {
      if (own.signal.aborted) return;
      own.abort(); // or what is given up would go on listening
      showProblem(root, title, error, () => start(...given));
    }
  };
  return start;
}
