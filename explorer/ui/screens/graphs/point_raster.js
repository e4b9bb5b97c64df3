// Draws many small translucent marks into a picture in memory, pixel by pixel.
//
// A GPU is not needed, and 50,000 marks take a few milliseconds: where the browser only has software WebGL, this is
// faster than a scatter plot made for a GPU (docs/benchmarks.md). Colours are [red, green, blue], 0 to 255.

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

  // The pixels of a mark around its centre, and how much of each it covers, 0 to 1.
  mask(shape, radius) {
    const key = shape * 1000 + Math.round(radius * 8);
    if (this.masks.has(key)) return this.masks.get(key);
    const reach = Math.ceil(radius + 0.5);
    const [across, down, cover] = [[], [], []];
    for (let y = -reach; y <= reach; y += 1) {
      for (let x = -reach; x <= reach; x += 1) {
        const distance = [Math.hypot(x, y), (Math.abs(x) + Math.abs(y)) * 0.8, Math.max(Math.abs(x), Math.abs(y)) * 1.12][shape];
        const part = Math.min(1, Math.max(0, radius + 0.5 - distance));
        if (part > 0.02) {
          across.push(x);
          down.push(y);
          cover.push(part);
        }
      }
    }
    const found = { reach, across: Int16Array.from(across), down: Int16Array.from(down), cover };
    this.masks.set(key, found);
    return found;
  }

  // One mark for each of `rows`, the later over the earlier. `masks` by kind; `colours` and their `opacities` by index.
  points(rows, { layout, kindOf, index }, { scale, left, top }, masks, colours, opacities) {
    const { width, height, pixels } = this;
    const weights = masks.map(({ cover }) => opacities.map((opacity) => Uint16Array.from(cover, (part) => part * opacity * 256)));
    const offsets = masks.map(({ across, down }) => Int32Array.from(across, (x, at) => down[at] * width + x));
    const channels = Uint8Array.from(colours.flat());
    for (let at = 0; at < rows.length; at += 1) {
      const row = rows[at];
      const x = Math.floor(layout[2 * row] * scale + left + 0.5);
      const y = Math.floor(top - layout[2 * row + 1] * scale + 0.5);
      const kind = kindOf[row];
      const { reach, across, down } = masks[kind];
      if (x < -reach || y < -reach || x >= width + reach || y >= height + reach) continue;
      const whole = x >= reach && y >= reach && x < width - reach && y < height - reach;
      const offset = offsets[kind];
      const tint = index[row];
      const weight = weights[kind][tint];
      const red = channels[3 * tint];
      const green = channels[3 * tint + 1];
      const blue = channels[3 * tint + 2];
      const centre = y * width + x;
      for (let part = 0; part < offset.length; part += 1) {
        if (!whole) {
          const px = x + across[part];
          const py = y + down[part];
          if (px < 0 || py < 0 || px >= width || py >= height) continue;
        }
        const place = centre + offset[part];
        pixels[place] = blend(pixels[place], red, green, blue, weight[part]);
      }
    }
  }

  // The part of a line that lies within the picture; `weight` is its opacity, 0 to 256.
  line(x0, y0, x1, y1, [red, green, blue], weight) {
    const { width, height, pixels } = this;
    const [dx, dy] = [x1 - x0, y1 - y0];
    let from = 0;
    let to = 1;
    if (dx) {
      from = Math.max(from, Math.min(-x0 / dx, (width - 1 - x0) / dx));
      to = Math.min(to, Math.max(-x0 / dx, (width - 1 - x0) / dx));
    } else if (x0 < 0 || x0 > width - 1) return;
    if (dy) {
      from = Math.max(from, Math.min(-y0 / dy, (height - 1 - y0) / dy));
      to = Math.min(to, Math.max(-y0 / dy, (height - 1 - y0) / dy));
    } else if (y0 < 0 || y0 > height - 1) return;
    const length = Math.max(Math.abs(dx), Math.abs(dy), 1);
    for (let share = from; share < to; share += 1 / length) {
      const place = Math.round(y0 + dy * share) * width + Math.round(x0 + dx * share);
      pixels[place] = blend(pixels[place], red, green, blue, weight);
    }
  }
}

function blend(pixel, red, green, blue, weight) {
  const r = pixel & 255;
  const g = (pixel >> 8) & 255;
  const b = (pixel >> 16) & 255;
  return (0xff000000 | ((b + (((blue - b) * weight) >> 8)) << 16)
    | ((g + (((green - g) * weight) >> 8)) << 8) | (r + (((red - r) * weight) >> 8))) >>> 0;
}

// "#2fc0b8" or "rgb(47, 192, 184)" -> [47, 192, 184].
export function rgb(text) {
  const hex = /^#([0-9a-f]{6})$/i.exec(text.trim());
  if (hex) return [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16));
  return (text.match(/\d+/g) ?? [127, 127, 127]).slice(0, 3).map(Number);
}
