// Where the labels of points in a chart may stand, so that none lies over another or over a point.

const [LETTER, LINE, MARK] = [6.6, 16, 8]; // pixels: a letter's width, a line's height, half of a point's size
const PLACES = {
  'top center': (x, y, wide) => [x - wide / 2, y - MARK - LINE, wide, LINE],
  'bottom center': (x, y, wide) => [x - wide / 2, y + MARK, wide, LINE],
  'middle right': (x, y, wide) => [x + MARK, y - LINE / 2, wide, LINE],
  'middle left': (x, y, wide) => [x - MARK - wide, y - LINE / 2, wide, LINE],
};

const overlap = ([x, y, wide, high], [left, top, width, height]) => (
  x < left + width && left < x + wide && y < top + height && top < y + high);

// For each of `points`, {x, y, text} in pixels, the place as Plotly calls it; null where there is none, and the label is
// shown when the point is pointed at. The first and the last point come before those between.
export function labelPlaces(points) {
  const taken = points.map(({ x, y }) => [x - MARK, y - MARK, 2 * MARK, 2 * MARK]);
  const places = points.map(() => null);
  const order = points.map((_, at) => at).sort((a, b) => (
    Math.min(a, points.length - 1 - a) - Math.min(b, points.length - 1 - b)));
  for (const at of order) {
    const { x, y, text } = points[at];
    for (const [place, boxOf] of Object.entries(PLACES)) {
      const box = boxOf(x, y, text.length * LETTER);
      if (taken.some((other, index) => index !== at && overlap(box, other))) continue;
      places[at] = place;
      taken.push(box);
      break;
    }
  }
  return places;
}
