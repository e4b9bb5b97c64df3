// What the measurement screens share: Plotly from this machine, the theme's colours, small DOM helpers.
// Text reaches the page only through text nodes and attributes, never as HTML.

import { ofStudy, studyShown } from './address.js';
import { saveBlob, withSettings } from './png.js';

const PLOTLY_URL = new URL('plotly.min.js', import.meta.url).href;
let plotlyLoading = null;

export function loadPlotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  plotlyLoading ??= new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = PLOTLY_URL;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotlyLoading = null;
      reject(new Error('plotly.min.js did not load: is the app still running?'));
    };
    document.head.append(script);
  });
  return plotlyLoading;
}

export function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// Of an element that is drawn into again.
export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

// A menu of [value, words]; `act` is told the value.
export const select = (label, options, chosen, act, attributes = {}) => node('select', {
  class: 'plain-select', 'aria-label': label, onchange: (event) => act(event.target.value), ...attributes,
}, options.map(([value, words]) => node('option', { value, selected: value === chosen }, words)));

export function theme() {
  const style = getComputedStyle(document.body);
  const dark = document.body.classList.contains('dark');
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    dark,
    benign: read('--benign'), poisoned: read('--poisoned'), unrecorded: read('--ink-soft'),
    text: read('--ink'), subdued: read('--ink-soft'), surface: read('--surface'),
    grid: dark ? '#27323c' : '#dfe6ec',
    faint: dark ? '#5b6a78' : '#7f8f9d',
    scale: dark
      ? [[0, '#6f63c9'], [0.3, '#3f86b8'], [0.6, '#35b779'], [0.85, '#b5de2b'], [1, '#fde725']]
      : [[0, '#9c8a00'], [0.2, '#4f9a2f'], [0.45, '#1f8f6b'], [0.7, '#2a788e'], [1, '#440154']],
    // Okabe and Ito's palette without black and yellow, told apart by colour-blind people; two darker ones on white.
    concepts: [dark ? '#e69f00' : '#b87f00', dark ? '#56b4e9' : '#2f8fc9', '#009e73', '#cc79a7', '#d55e00', '#0072b2'],
  };
}

// Ends with `signal`: else `callback` would be kept, with all that it draws.
export function onThemeChange(callback, signal) {
  let dark = document.body.classList.contains('dark');
  const observer = new MutationObserver(() => {
    const now = document.body.classList.contains('dark');
    if (now !== dark) { dark = now; callback(); }
  });
  observer.observe(document.body, { attributes: true, attributeFilter: ['class'] });
  signal.addEventListener('abort', () => observer.disconnect(), { once: true });
}

// Tabs that are not shown have no size to draw into: wait for the first sight of `element`.
export function whenVisible(element) {
  return new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(element);
  });
}

export async function fetchPayload(url) {
  let response;
  try {
    response = await fetch(ofStudy(url));
  } catch (error) {
    throw new Error(`The app does not answer (${error.message}). Is it still running?`);
  }
  const payload = await response.json().catch(() => null); // a server that is at its wit's end answers in no JSON
  if (payload?.problem) throw Object.assign(new Error(payload.problem), { missing: payload.missing });
  if (!response.ok || !payload) throw new Error(`The app answered ${response.status} for ${url}.`);
  return payload;
}

export function showProblem(root, title, error, retry) {
  if (error.missing) { root.replaceChildren(missingStep(error.missing, retry)); return; }
  root.replaceChildren(node('div', { class: 'measure-problem', role: 'alert' },
    node('h3', {}, title), node('p', {}, withCode(error.message)),
    node('button', { type: 'button', class: 'plain-button', onclick: retry }, 'Try again')));
}

// What stands between backticks as code.
const withCode = (text) => text.split('`').map((part, at) => (at % 2 ? node('code', {}, part) : part));

// A step that the study has not done: what it would show, what is needed, the command, and roughly how long it takes.
export function missingStep({ made, lacks, command, cost }, retry = null) {
  const copy = node('button', { type: 'button', class: 'plain-button', title: 'Copy the command', onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = 'Copied';
    } catch (error) {
      getSelection().selectAllChildren(text); // to be copied with the keyboard, where a browser refuses
    }
  } }, 'Copy');
  const text = node('code', {}, command);
  return node('section', { class: 'missing-step', role: 'status' },
    node('h3', {}, 'Not measured yet'), node('p', {}, `Once it is measured, this place shows ${made}.`),
    lacks ? node('p', { class: 'lacks' }, withCode(lacks)) : null,
    node('div', { class: 'command' }, text, copy), cost ? node('p', { class: 'note' }, cost) : null,
    retry ? node('button', { type: 'button', class: 'plain-button', onclick: retry }, 'Look again') : null);
}

// What a link names and this screen does not have, as a message; null where there is nothing to say.
export function notFound(names) {
  const known = names.filter((name) => name !== undefined && name !== '');
  return known.length ? node('div', { class: 'notice error', role: 'alert' },
    `The link names ${known.map((name) => `“${name}”`).join(', ')}: not found here. What is shown instead is the usual view.`) : null;
}

export function layout(colours, changes = {}) {
  const axis = (extra = {}) => ({
    gridcolor: colours.grid, zerolinecolor: colours.grid, linecolor: colours.grid,
    tickfont: { color: colours.subdued }, automargin: true, ...extra,
    title: { text: extra.title ?? '', font: { size: 13, color: colours.subdued }, standoff: 6 },
  });
  const { xaxis, yaxis, ...rest } = changes;
  return {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false,
    font: { color: colours.text, size: 13, family: 'system-ui, sans-serif' },
    margin: { l: 52, r: 14, t: 10, b: 42 },
    hoverlabel: { bgcolor: colours.surface, bordercolor: colours.faint, font: { color: colours.text } },
    ...rest, xaxis: axis(xaxis), yaxis: axis(yaxis),
  };
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

// A name within a text of Plotly's, which it reads as markup.
export function escapeText(text) {
  return text.replace(/[&<>]/g, (character) => ENTITIES[character]);
}

const unescapeText = (text) => Object.entries(ENTITIES).reverse().reduce((whole, [character, entity]) => whole.replaceAll(entity, character), text);

const fitted = new WeakSet();

// Draws a chart, or draws it anew: one that goes on filling its place, also when that changed while it was hidden, and
// that can be saved with its numbers inside, as `name`. It ends with `signal`: else Plotly would keep it, and its numbers.
export async function drawPlot(Plotly, element, traces, settings, name, signal) {
  if (signal.aborted) return;
  fit(Plotly, element, signal);
  const save = savePlotButton(Plotly, name);
  const buttons = [save, 'resetScale2d'];
  await Plotly.react(element, traces, settings, {
    responsive: true, displaylogo: false, displayModeBar: 'hover', modeBarButtons: [buttons],
  });
  showSaveBelow(element, save);
}

function fit(Plotly, element, signal) {
  if (fitted.has(element)) return;
  fitted.add(element);
  const observer = new ResizeObserver(() => {
    const width = element.clientWidth;
    if (width && element._fullLayout && Math.abs(width - element._fullLayout.width) > 1) Plotly.Plots.resize(element);
  });
  observer.observe(element);
  signal.addEventListener('abort', () => { observer.disconnect(); Plotly.purge(element); }, { once: true });
}

// Where Plotly's own buttons would lie over the legend, touched or narrow, this one stands below the chart (base.css).
function showSaveBelow(element, { title, click }) {
  const below = element.nextElementSibling?.matches('.save-chart') ? element.nextElementSibling : node('button', { type: 'button', class: 'plain-button save-chart', title }, 'Save chart');
  below.onclick = () => click(element); // a chart that is drawn anew may have another name
  element.after(below);
}

const TITLE = 44; // pixels that a saved chart has above it for what it is and of which study
const ORIGIN = { size: 12, line: 20, letter: 6.4 }; // pixels of the lines below that: what its numbers are of

// Prompt, seeds and models that a saved chart's numbers are of, in lines as wide as the chart.
function originLines(plot) {
  const { origin, models } = plot.closest('[data-models]')?.dataset ?? {};
  const { drawn, meter } = origin ? JSON.parse(origin) : {};
  const asked = ({ prompt }) => `“${prompt.replace('{phrase}', '…')}”`;
  const words = [
    drawn && `${asked(drawn)}, ${drawn.seeds.length > 1 ? 'seeds' : 'seed'} ${drawn.seeds.join(', ')}, ${drawn.steps} steps, guidance ${drawn.guidance_scale}.`,
    meter && `${asked(meter)} on ${meter.shown}, noise of seed ${meter.seed}, ${meter.draws} draws.`,
    models && `Models: ${JSON.parse(models).join(', ')}.`,
  ].filter(Boolean).join(' ').split(' ');
  const most = Math.max(20, Math.floor(plot.clientWidth / ORIGIN.letter));
  return words.filter(Boolean).reduce((lines, word) => {
    const last = lines.at(-1);
    return last !== undefined && `${last} ${word}`.length <= most ? [...lines.slice(0, -1), `${last} ${word}`] : [...lines, word];
  }, []);
}

// A chart's layout with its caption, which stands beside it on the page, and on the page's own ground.
function titled(plot, lines) {
  const caption = plot.closest('figure')?.querySelector('figcaption')?.firstChild?.textContent
    ?? plot.closest('[aria-label]')?.getAttribute('aria-label') ?? '';
  const { layout: own } = plot;
  const below = lines.map((line) => `<br><span style="font-size: ${ORIGIN.size}px">${escapeText(line)}</span>`).join('');
  const text = [caption, studyShown()].filter(Boolean).join(', ') + below;
  const named = plot.data.filter(({ name }) => name).length > 1;
  const legend = own.showlegend ? {} : { showlegend: named, legend: { orientation: 'h', x: 0, y: 1, yanchor: 'bottom' } };
  return { ...own, ...legend, height: undefined, paper_bgcolor: theme().surface, margin: { ...own.margin, t: (own.margin?.t ?? 0) + TITLE + lines.length * ORIGIN.line },
    title: { text, font: { size: 15, color: theme().text }, x: 0.01, xanchor: 'left', y: 1, yanchor: 'top', pad: { t: lines.length ? 18 : 12 } } };
}

// The models that a chart's numbers are of, for the line above it where it is saved.
export const withModels = (models) => ({ 'data-models': JSON.stringify(models.map(({ name }) => name)) });

// Attributes of what holds a chart or a table whose numbers `origin` is of: how the pictures were `drawn`, what the
// `meter` was shown, what a `calculator` was given. It is saved with them. Numbers of another origin, such as the paper's, stand in nothing that has it,
// or in rows that say whose they are.
export const withOrigin = (origin) => ({ 'data-origin': JSON.stringify(origin) });

// Of a chart or a table: its study, the link that shows it again, and its origin, where a screen says it.
function whatIsShown(element) {
  const origin = element.closest('[data-origin]')?.dataset.origin;
  return { study: studyShown(), link: location.href, ...origin && JSON.parse(origin) };
}

// The numbers of a trace, their intervals, and what they are called.
export const savedTrace = ({ name, x, y, text, customdata, error_y: bars }) => ({
  name, x, y, text: text?.map(unescapeText), customdata, error_y: bars && { array: bars.array, arrayminus: bars.arrayminus },
});

function savePlotButton(Plotly, name) {
  const click = async (plot) => {
    const lines = originLines(plot);
    const figure = { data: plot.data, layout: titled(plot, lines) };
    const picture = await fetch(await Plotly.toImage(figure, { format: 'png', scale: 2, width: plot.clientWidth, height: plot.clientHeight + TITLE + lines.length * ORIGIN.line }));
    const traces = plot.data.map(savedTrace);
    const settings = { chart: name, ...whatIsShown(plot), traces };
    saveBlob(withSettings(new Uint8Array(await picture.arrayBuffer()), settings), `${name}.png`);
  };
  return { name: 'savePicture', title: 'Save as PNG, its numbers inside', icon: Plotly.Icons.camera, click };
}

// Saves what a table shows, a JSON object a row, and the link that shows it again.
export function saveTableButton(name, table) {
  const texts = (cells) => [...cells].map((cell) => cell.title ? `${cell.textContent} (${cell.title})` : cell.textContent);
  const save = () => {
    const heads = texts(table.tHead.rows[0].cells);
    const rows = [...table.tBodies[0].rows].map((row) => Object.fromEntries(texts(row.cells).map((text, at) => [heads[at], text])));
    download(`${name}.json`, { table: name, ...whatIsShown(table), rows });
  };
  return node('button', { type: 'button', class: 'plain-button save-table', onclick: save, title: 'Save as JSON, with the link to this view' }, 'Save table');
}

// A box that scrolls where its content is too wide: named, and within reach of the keyboard.
export const scrollable = (style, name, ...children) => node('div', { class: style, role: 'group', tabindex: 0, 'aria-label': name }, ...children);

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  return value.toFixed(digits);
}

export function ordinal(place) {
  const tens = place % 100;
  if (tens > 10 && tens < 14) return `${place}th`;
  return `${place}${['th', 'st', 'nd', 'rd'][place % 10] ?? 'th'}`;
}

export const count = (value) => value.toLocaleString('en-US');

export const download = (name, value) => saveBlob(new Blob([JSON.stringify(value, null, 1)], { type: 'application/json' }), name);
