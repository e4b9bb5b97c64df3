// What lies over a map's points: rings around the inspected pair and its neighbours, thumbnails, the lasso.

const THUMBNAIL_LIMIT = 140;

export function drawOverlay(plot, colours) {
  const pictured = plot.display.thumbnails && (plot.data.thumbnail || plot.data.pictures) && plot.surelyInView() <= THUMBNAIL_LIMIT;
  const { inspected } = plot.display;
  const moves = pictured || inspected !== null || plot.hovered >= 0 || plot.outline;
  // A canvas that is drawn on is put together with the rest again, which without a GPU costs as much as all the points.
  const still = moves ? '' : `${plot.tooMany ? colours.subdued : 'nothing'}`;
  if (still && still === plot.still) return;
  plot.still = still;
  const context = plot.overlay.getContext('2d');
  context.setTransform(plot.ratio, 0, 0, plot.ratio, 0, 0);
  context.clearRect(0, 0, plot.width, plot.height);
  if (pictured) drawThumbnails(context, plot, colours);
  if (inspected !== null) {
    for (const other of plot.data.neighbours(plot.side, inspected)) if (other >= 0) ring(context, plot.position(other), 7, 1.6, colours.text);
    ring(context, plot.position(inspected), 12, 3.5, colours.text);
  }
  if (plot.hovered >= 0) ring(context, plot.position(plot.hovered), 6, 2, colours.text);
  if (plot.tooMany) note(context, plot, 'Zoom in for edges', colours);
  if (plot.outline) drawOutline(context, plot.outline, colours);
}

function ring(context, { x, y }, radius, width, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

function note(context, plot, words, colours) {
  context.font = '12px system-ui, sans-serif';
  context.fillStyle = colours.subdued;
  context.fillText(words, 10, plot.height - 10);
}

function drawOutline(context, outline, colours) {
  context.beginPath();
  outline.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  context.lineWidth = 1.5;
  context.strokeStyle = colours.text;
  context.setLineDash([5, 4]);
  context.stroke();
  context.setLineDash([]);
}

function drawThumbnails(context, plot, colours) {
  const inside = [];
  const [left, top] = plot.plane([0, 0]);
  const [right, bottom] = plot.plane([plot.width, plot.height]);
  plot.grid.visit(left, bottom, right, top, (row, x, y) => {
    if (x < left || x > right || y < bottom || y > top) return;
    inside.push(row);
  });
  if (inside.length > THUMBNAIL_LIMIT) return;
  for (const row of inside) {
    const picture = plot.data.picture(row);
    if (!picture) continue;
    const { x, y } = plot.position(row);
    const side = row === plot.display.inspected ? 58 : inside.length > 60 ? 28 : 38;
    context.fillStyle = colours[plot.data.kind(row)];
    context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
    context.drawImage(picture.image, picture.left, picture.top, picture.side, picture.side, x - side / 2, y - side / 2, side, side);
  }
}
