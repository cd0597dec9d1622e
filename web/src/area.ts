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

/** Calls changed whenever the device pixel ratio does: another monitor, another zoom. No resize tells of it where the size of the window
 *  in CSS pixels stays the same. */
export function onRatio(signal: AbortSignal, changed: () => void): void {
  const next = new AbortController();
  const ask = matchMedia(`(resolution: ${window.devicePixelRatio || 1}dppx)`);
  ask.addEventListener("change", () => {
    next.abort();
    onRatio(signal, changed);
    changed();
  }, { signal: AbortSignal.any([signal, next.signal]) });
}
