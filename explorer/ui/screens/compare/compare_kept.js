// The last comparison that was drawn live, so that a reload of the tab shows it again while the app has it in memory.

const KEY = 'explorer-live';

export function keepLive({ study, query, models, columns }) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ study, query, models, columns }));
  } catch (error) {
    console.warn(`the comparison is not kept for a reload: ${error.message}`);
  }
}

// Null where the last one was of another study or of other settings.
export function keptLive(study, query) {
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? 'null');
  return kept?.study === study && kept.query === query ? kept : null;
}
