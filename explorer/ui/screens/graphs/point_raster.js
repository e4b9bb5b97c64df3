// Draws many small translucent marks into a picture in memory, pixel by pixel.
//
// A GPU is not needed, and 50,000 marks take a few milliseconds: where the browser only has software WebGL, this is
// faster than a scatter plot made for a GPU (docs/benchmarks.md).

export const SHAPES = { circle: 0, diamond: 1, square: 2 };

export class PointRaster {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.masks = new Map();
  }

  clear([red, green, blue]) {
    this.pixels.fill((0xff000000 | (blue << 16) | (green << 8) | red) >>> 0);
  }

  // How much of each pixel a mark of this shape covers, 0 to 1.
  mask(shape, radius) {
    const key = shape * 1000 + Math.round(radius * 8);
    if (this.masks.has(key)) return this.masks.get(key);
    const reach = Math.ceil(radius + 0.5);
    const side = 2 * reach + 1;
    const cover = new Float32Array(side * side);
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) {
        const distance = [Math.hypot(x, y), (Math.abs(x) + Math.abs(y)) * 0.8, Math.max(Math.abs(x), Math.abs(y)) * 1.12][shape];
        cover[(y + reach) * side + x + reach] = Math.min(1, Math.max(0, radius + 0.5 - distance));
      }
    }
    const found = { reach, side, cover };
    this.masks.set(key, found);
    return found;
  }

  // One mark around (x, y) in pixels; `colour` is [red, green, blue].
  mark(x, y, { reach, side, cover }, colour, opacity) {
    const [cx, cy] = [Math.round(x), Math.round(y)];
    if (cx < -reach || cy < -reach || cx >= this.width + reach || cy >= this.height + reach) return;
    for (let line = 0; line < side; line += 1) {
      const py = cy + line - reach;
      if (py < 0 || py >= this.height) continue;
      for (let at = 0; at < side; at += 1) {
        const px = cx + at - reach;
        const part = cover[line * side + at];
        if (part && px >= 0 && px < this.width) this.blend(py * this.width + px, colour, part * opacity);
      }
    }
  }

  // The part of a line that lies within the picture.
  line(x0, y0, x1, y1, colour, opacity) {
    let [from, to] = [0, 1];
    for (const [start, change, end] of [[x0, x1 - x0, this.width - 1], [y0, y1 - y0, this.height - 1]]) {
      const [enters, leaves] = change ? [-start / change, (end - start) / change] : start < 0 || start > end ? [2, -1] : [0, 1];
      from = Math.max(from, Math.min(enters, leaves));
      to = Math.min(to, Math.max(enters, leaves));
    }
    if (from > to) return;
    const length = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    const steps = Math.ceil(length * (to - from));
    for (let step = 0; step < steps; step += 1) {
      const share = from + step / length;
      const [px, py] = [Math.round(x0 + (x1 - x0) * share), Math.round(y0 + (y1 - y0) * share)];
      if (px >= 0 && py >= 0 && px < this.width && py < this.height) this.blend(py * this.width + px, colour, opacity);
    }
  }

  blend(at, [red, green, blue], opacity) {
    const pixel = this.pixels[at];
    const weight = (opacity * 256) | 0;
    const r = pixel & 255;
    const g = (pixel >> 8) & 255;
    const b = (pixel >> 16) & 255;
    this.pixels[at] = (0xff000000 | ((b + (((blue - b) * weight) >> 8)) << 16)
      | ((g + (((green - g) * weight) >> 8)) << 8) | (r + (((red - r) * weight) >> 8))) >>> 0;
  }
}

// "#2fc0b8" or "rgb(47, 192, 184)" -> [47, 192, 184].
export function rgb(text) {
  const hex = /^#([0-9a-f]{6})$/i.exec(text.trim());
  if (hex) return [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16));
  return (text.match(/\d+/g) ?? [127, 127, 127]).slice(0, 3).map(Number);
}
