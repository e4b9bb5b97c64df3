// How many rows the columns share, so that their pictures and maps are level, and how a column is laid out in its width.

const NARROW = 276; // pixels of a column with its frame: no wider, and its maps lie below its picture instead of beside it
const GAP = 14; // between columns
const USUAL_COLUMNS = [900, 2]; // on a page up to so wide, so many beside one another (compare.css)
const [HEAD, OWN_STACKED, OWN_BESIDE] = [1, 2, 0]; // rows: the head; picture and judgement where the maps lie below them

export function columnWidth(grid, count) {
  const beside = window.innerWidth <= USUAL_COLUMNS[0] ? Math.min(count, USUAL_COLUMNS[1]) : count;
  return (grid.clientWidth - (beside - 1) * GAP) / beside;
}

export const isNarrow = (grid, count) => columnWidth(grid, count) <= NARROW;

// For `count` columns with `maps` maps each.
export function fitColumns(grid, count, maps) {
  const stacked = isNarrow(grid, count);
  grid.classList.toggle('stacked', stacked);
  grid.style.setProperty('--columns', count);
  grid.style.setProperty('--rows', HEAD + (stacked ? OWN_STACKED : OWN_BESIDE) + Math.max(1, maps));
}

// Calls `fit` whenever the grid's width may have changed: it has none while another screen is open.
export function watchWidth(grid, signal, fit) {
  const observer = new ResizeObserver(() => requestAnimationFrame(() => { if (!signal.aborted) fit(); }));
  observer.observe(grid);
  signal.addEventListener('abort', () => observer.disconnect());
}

// Drawing again replaces every element: the keyboard's focus stays at its place in its column.
export function replaceKeepingFocus(grid, columns) {
  const stops = (column) => [...(column?.querySelectorAll('button, canvas') ?? [])];
  const before = [...grid.children];
  const column = before.findIndex((child) => child.contains(document.activeElement));
  const place = stops(before[column]).indexOf(document.activeElement);
  grid.replaceChildren(...columns);
  if (place >= 0) stops(columns[column])[place]?.focus({ preventScroll: true });
}
