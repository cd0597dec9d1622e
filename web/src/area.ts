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

/** Calls changed whenever an element has another size in the screen's pixels: the window, another monitor, another zoom. No resize tells of
 *  the latter two where the size in CSS pixels stays the same. */
export function onDevicePixels(element: Element, signal: AbortSignal, changed: () => void): void {
  const observer = new ResizeObserver(changed);
  try {
    observer.observe(element, { box: "device-pixel-content-box" });
  } catch { // a browser that knows CSS pixels only
    observer.observe(element);
    onRatio(signal, changed);
  }
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
}

/** A media query knows one ratio; after each change it is asked anew, when the page has the new one. */
function onRatio(signal: AbortSignal, changed: () => void): void {
  const ratio = window.devicePixelRatio || 1;
  matchMedia(`(resolution: ${ratio}dppx)`).addEventListener("change", () => {
    changed();
    requestAnimationFrame(() => onRatio(signal, changed));
  }, { signal, once: true });
}
