// The viewer's area: its size in the screen's pixels, and how many of them make one of the page's.

/** Hosts take no larger picture than this. */
const MAX_SIDE = 8192;
/** Units of a scale: fractions that screens really have are whole numbers of them. */
export const SCALE_UNIT = 120;

export interface Area { width: number; height: number; scale: number }

/** The area of an element of CSS pixels at a device pixel ratio; even in both directions, as encoders want it. Pure, for tests. */
export function area(cssWidth: number, cssHeight: number, ratio: number): Area {
  const dpr = ratio > 0 ? ratio : 1;
  const even = (v: number) => Math.min(MAX_SIDE, Math.floor((v * dpr) / 2) * 2);
  return { width: even(cssWidth), height: even(cssHeight), scale: Math.round(dpr * SCALE_UNIT) };
}

/** How often the ratio is looked at (ms): a person who moves the window to another monitor has not let go of it yet. */
const LOOK_EVERY = 500;

/** Calls changed when the device pixel ratio has: another monitor, another zoom. No resize tells of it where the size in CSS pixels stays the
 *  same, and media queries and boxes in device pixels tell of it in some browsers and in some cases only. */
export function onRatio(signal: AbortSignal, changed: () => void): void {
  let ratio = window.devicePixelRatio;
  const timer = setInterval(() => {
    if (window.devicePixelRatio === ratio) return;
    ratio = window.devicePixelRatio;
    changed();
  }, LOOK_EVERY);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
