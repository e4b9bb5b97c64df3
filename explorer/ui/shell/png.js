// PNG files that carry the settings they were made with.

export const SETTINGS_KEY = 'implosion-explorer';

const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

export function crc32(data) {
  let value = 0xffffffff;
  for (const byte of data) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

// `settings` as JSON (ASCII, so that a tEXt chunk may hold it) right after the PNG's header chunk.
export function withSettings(png, settings) {
  const json = JSON.stringify(settings).replace(/[\u0080-\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`);
  const body = new TextEncoder().encode(`tEXt${SETTINGS_KEY}\0${json}`);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc32(body));
  const headerEnd = 8 + 25;
  return new Blob([png.slice(0, headerEnd), chunk, png.slice(headerEnd)], { type: 'image/png' });
}

export async function savePng(canvas, settings, name) {
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); });
  saveBlob(withSettings(new Uint8Array(await blob.arrayBuffer()), settings), name);
}

export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 2000);
}
