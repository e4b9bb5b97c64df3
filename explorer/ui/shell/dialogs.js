// Dialogs above the whole page. While one is open nothing else can be clicked, so that it must not be open out of sight.

import { whenVisible } from './charts.js';

// Shows a dialog as soon as the screen that holds it is in sight, and closes it when that no longer is: behind another
// tab, or by Back. `signal` ends the screen, and with it whatever waits for its sight.
export async function showDialog(dialog, signal) {
  const screen = dialog.parentElement;
  await whenVisible(screen);
  if (dialog.open || signal.aborted) return;
  dialog.showModal();
  const observer = new ResizeObserver(() => { if (!screen.offsetParent && !signal.aborted) dialog.close(); });
  observer.observe(screen);
  dialog.addEventListener('close', () => observer.disconnect(), { once: true });
}
