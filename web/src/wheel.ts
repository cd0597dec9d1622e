// Turns of a wheel, or of two fingers, as 1/120 notch. What one event carries says nothing about the device: a fine wheel sends many
// small parts of a notch, a touchpad too, and a coarse one several notches at once. So every event is only a distance, and the same turn
// is the same distance whatever parts it came in. The desktop makes clicks of it.

/** Units of a notch. */
export const NOTCH = 120;
/** Lines and pixels that a browser scrolls per notch where it does not tell the turn itself. */
const NOTCH_LINES = 3;
const LINE_PIXELS = 16;
/** No browser scrolls fewer pixels for a notch, whatever its zoom: a turn that says so is not one that was measured. */
const LEAST_PIXELS = 4;
/** Notches of a page, for the rare device that turns pages: a page shows about 24 lines. */
const PAGE_NOTCHES = 8;

export interface Turn {
  deltaX: number; deltaY: number; deltaMode: number;
  /** The turn itself, 120 a notch and positive up or left, free of zoom and of the system's lines per notch. Not in the standard, and in
   *  every browser. */
  wheelDeltaX?: number; wheelDeltaY?: number;
}

export class Wheel {
  private restX = 0;
  private restY = 0;

  /** The distance of one event in whole units; fractions are kept for the next ones. Positive is right and down. */
  turn(e: Turn): { x: number; y: number } {
    this.restX += units(e.deltaX, e.deltaMode, e.wheelDeltaX);
    this.restY += units(e.deltaY, e.deltaMode, e.wheelDeltaY);
    const x = Math.trunc(this.restX), y = Math.trunc(this.restY);
    this.restX -= x;
    this.restY -= y;
    return { x, y };
  }
}

function units(delta: number, mode: number, told: number | undefined): number {
  if (!Number.isFinite(delta)) return 0;
  if (told && (mode !== 0 || Math.abs(delta) >= (Math.abs(told) / NOTCH) * LEAST_PIXELS)) return -told;
  switch (mode) {
    case 1: return (delta / NOTCH_LINES) * NOTCH;
    case 2: return delta * PAGE_NOTCHES * NOTCH;
    default: return (delta / (NOTCH_LINES * LINE_PIXELS)) * NOTCH;
  }
}
