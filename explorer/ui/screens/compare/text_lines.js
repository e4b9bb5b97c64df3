// Lines of text on a canvas that are as many as they need to be: nothing is squeezed or cut.

const FONTS = { title: ['600 20px system-ui, sans-serif', 26], name: ['600 15px system-ui, sans-serif', 20], plain: ['13px system-ui, sans-serif', 18] };

// The text in lines no wider than `width`, broken at spaces, but at none that is marked as not to break.
export function wrapped(context, text, width, kind) {
  [context.font] = FONTS[kind];
  const fits = (line) => context.measureText(line).width <= width;
  const lines = [''];
  for (const [, space, word] of text.matchAll(/( *)([^ ]+)/g)) {
    const longer = lines.at(-1) ? lines.at(-1) + space + word : word;
    if (fits(longer)) lines[lines.length - 1] = longer;
    else lines.push(...pieces(word, fits));
  }
  return lines.filter(Boolean);
}

// A word, in as many pieces as it takes: names may be of any length.
function pieces(word, fits) {
  const found = [''];
  for (const letter of word) {
    if (!found.at(-1) || fits(found.at(-1) + letter)) found[found.length - 1] += letter;
    else found.push(letter);
  }
  return found;
}

export class Lines {
  constructor(height) {
    this.height = height; // of what was added, with some room above it
    this.lines = [];
  }

  add(texts, kind) {
    for (const text of texts) {
      this.height += FONTS[kind][1];
      this.lines.push({ text, font: FONTS[kind][0], below: this.height });
    }
  }

  draw(context, left, top) {
    for (const { text, font, below } of this.lines) {
      context.font = font;
      context.fillText(text, left, top + below - 4);
    }
  }
}

// Where the rows of all cells lie below `top`, so that they are level: the names, then each picture with its words.
export function placed(cells, top, side) {
  const rows = [{ top, bottom: top + Math.max(...cells.map(({ name }) => name.height)) + 8 }];
  const count = Math.max(...cells.map(({ figures }) => figures.length));
  for (let at = 0; at < count; at += 1) {
    const start = rows.at(-1).bottom;
    const heights = cells.map(({ figures }) => figures[at]?.said.height ?? 0);
    rows.push({ top: start, bottom: start + side + Math.max(...heights) + 12 });
  }
  return rows;
}
