// What the address remembers beside a comparison: the open screen, and each screen's own choices under a prefix.
// `?tab=graphs&g.colour=structure_distance&g.pair=s1-000017`: a link opens what its sender saw.

// An address of the app's own, `/live/x.json`, wherever a proxy shows the page.
export const here = (path) => new URL(`.${path}`, document.baseURI).href;

const TAB = 'tab';
const STUDY = 'study';
export const STUDY_CHANGED = 'explorer-study';
export const CHOICES_PROPOSED = 'explorer-choices';
const SCREENS = ['compare', 'implosion', 'graphs', 'alignment', 'defence', 'checkpoints'];

// A tab that finds no room stands in Gradio's menu of further tabs, as a button without an id: there it is known by its
// words, which a hidden list of all tabs has in order.
function tabButton(screen) {
  const tab = document.querySelector(`#screens [role="tab"][data-tab-id="${screen}"]`);
  if (tab) return tab;
  const words = document.querySelectorAll('#screens .tab-wrapper [aria-hidden="true"] button')[SCREENS.indexOf(screen)]?.textContent;
  const others = document.querySelectorAll('#screens .tab-wrapper button:not([role="tab"], [aria-hidden="true"] *)');
  return [...others].find((button) => words && button.textContent === words);
}

const openScreen = () => document.querySelector('#screens [role="tab"][aria-selected="true"]')?.dataset.tabId;

const STUDIES = document.querySelector('meta[name="explorer-studies"]').content.split(' '); // see application.py

// What addresses call the study that the page shows.
export const studyShown = () => new URLSearchParams(location.search).get(STUDY) ?? STUDIES[0];

// An address of the app's own, of the study that the page shows.
export function ofStudy(path) {
  const url = new URL(here(path));
  url.searchParams.set(STUDY, studyShown());
  return url.href;
}

// Goes to another study, on the same screen. All other choices in the address are of the one that is left.
export function chooseStudy(slug) {
  const query = new URLSearchParams(location.search);
  for (const name of [...query.keys()]) if (name !== TAB && !name.startsWith('__')) query.delete(name);
  query.set(STUDY, slug);
  push(query);
  followStudy();
}

let latest = location.search; // what the address said last, when it was not gone back from
let followed = studyShown();
if (STUDIES.length > 1) { // where there are others, a link has to name its own
  const query = new URLSearchParams(location.search);
  query.set(STUDY, followed);
  replace(query);
}

// Tells every screen, once the address names another study.
function followStudy() {
  if (studyShown() === followed) return;
  followed = studyShown();
  window.dispatchEvent(new Event(STUDY_CHANGED));
}

// Back goes through the screens and the studies. Within a study all choices stay as they are now.
window.addEventListener('popstate', () => {
  const screen = new URLSearchParams(location.search).get(TAB) ?? SCREENS[0];
  if (studyShown() === followed) replace(withScreen(new URLSearchParams(latest), screen));
  else latest = location.search;
  showScreen(screen);
  followStudy();
});

export function showScreen(screen) {
  if (SCREENS.includes(screen)) tabButton(screen)?.click();
}

export const LONGEST_LINK = 4000; // letters of one choice; longer addresses are cut by mail programs and proxies

// A screen's choices by name; what the address does not mention is absent.
export function readChoices(prefix) {
  const query = new URLSearchParams(location.search);
  const own = [...query].filter(([name]) => name.startsWith(`${prefix}.`));
  return Object.fromEntries(own.map(([name, value]) => [name.slice(prefix.length + 1), value]));
}

// Values equal to their default are left out, so that links stay short.
export function writeChoices(prefix, choices, defaults) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(choices)) {
    const text = String(value ?? '');
    if (text === String(defaults[name] ?? '')) query.delete(`${prefix}.${name}`);
    else query.set(`${prefix}.${name}`, text);
  }
  replace(query);
}

// Several names as one value, with a space between two; a space within a name is written out, so that it stays one name.
export const joinNames = (names) => names.map((name) => name.replace(/[% ]/g, encodeURIComponent)).join(' ');
export const splitNames = (text) => text.split(' ').map((name) => name.replace(/%2[05]/g, decodeURIComponent));

// Sets choices of a screen from outside of it: one that is drawn already hears of them by the event, one that is not reads
// them in the address.
export function proposeChoices(prefix, choices, defaults) {
  writeChoices(prefix, choices, defaults);
  window.dispatchEvent(new CustomEvent(CHOICES_PROPOSED, { detail: prefix }));
}

// Parameters that are not a comparison's own: they survive when a comparison writes its link.
export function keepChoices(query) {
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === TAB || name === STUDY || name.startsWith('__') || /^[a-z]\./.test(name)) query.set(name, value);
  }
}

// Opens the screen that the address names and notes every later change of screen. Whoever chose a screen while the
// page was still loading keeps it.
export function followScreens() {
  whenThere('#screens .tab-wrapper', follow);
}

// Gradio mounts the tabs and what stands above them in no fixed order.
function whenThere(selector, callback) {
  const found = document.querySelector(selector);
  if (found) { callback(found); return; }
  const observer = new MutationObserver(() => {
    const come = document.querySelector(selector);
    if (come) { observer.disconnect(); callback(come); }
  });
  observer.observe(document.body, { childList: true, subtree: true });
}

function follow(tabs) {
  const wanted = new URLSearchParams(location.search).get(TAB);
  const open = openScreen() ?? SCREENS[0];
  if (open !== SCREENS[0]) noteScreen(open, replace);
  else if (wanted) showScreen(wanted);
  new MutationObserver(() => {
    const screen = openScreen();
    if (SCREENS.includes(screen)) noteScreen(screen, push);
  }).observe(tabs, { subtree: true, attributes: true, attributeFilter: ['aria-selected'], childList: true });
}

function noteScreen(screen, write) {
  const query = new URLSearchParams(location.search);
  if ((query.get(TAB) ?? SCREENS[0]) !== screen) write(withScreen(query, screen));
}

function withScreen(query, screen) {
  if (screen === SCREENS[0]) query.delete(TAB); else query.set(TAB, screen);
  return query;
}

function addressOf(query) {
  return query.toString() ? `${location.pathname}?${query}` : location.pathname;
}

function replace(query) { replaceAddress(addressOf(query)); }

function push(query) {
  history.pushState(null, '', addressOf(query));
  latest = location.search;
}

// Every change of the address that Back does not return from.
export function replaceAddress(link) {
  history.replaceState(history.state, '', link);
  latest = location.search;
}
