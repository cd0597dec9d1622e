// The desktop's pointer where it is not part of the picture. Those in control get it as their own CSS cursor, which has no
// latency at all; where the browser has no cursor to shape (pointer lock, watching) it is drawn over the picture.

import type { Cursor } from "./wire.js";

/** Browsers ignore larger CSS cursors. */
const MAX_CSS_CURSOR = 128;

/** Shown while the pointer is part of the picture: small enough not to be a second one. */
const DOT =
  "url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'%3E%3Ccircle cx='4.5' cy='4.5' r='2.5' " +
  "fill='%23fff' fill-opacity='.75' stroke='%23000' stroke-opacity='.6'/%3E%3C/svg%3E\") 4 4, crosshair";

export class CursorView {
  private last: Cursor | null = null;
  private image: HTMLCanvasElement | null = null;
  private overlay: boolean = false;

  constructor(private readonly stage: HTMLElement, private readonly element: HTMLElement, private readonly picture: HTMLCanvasElement) {
    this.stage.style.cursor = DOT;
  }

  /** Draws over the picture (true) or as CSS cursor (false). */
  setOverlay(on: boolean): void {
    if (this.overlay === on) return;
    this.overlay = on;
    this.apply();
  }

  update(c: Cursor): void {
    const had = this.last?.rgba ? this.last : null;
    if (c.rgba) this.image = toCanvas(c);
    else if (had) c = { ...c, width: had.width, height: had.height, rgba: had.rgba };
    const same = this.last && !this.overlay && c.rgba === this.last.rgba && c.visible === this.last.visible;
    this.last = c;
    if (!same) this.apply();
  }

  /** The picture is shown at another scale now. */
  rescale(): void {
    if (this.last) this.apply();
  }

  reset(): void {
    this.last = null;
    this.image = null;
    this.element.hidden = true;
    this.stage.style.cursor = DOT;
  }

  private apply(): void {
    const c = this.last;
    if (!c) return;
    const shown = c.visible && this.image;
    this.element.hidden = !(this.overlay && shown);
    if (!shown) this.stage.style.cursor = c.visible ? DOT : "none";
    else if (this.overlay) this.place(c);
    else this.stage.style.cursor = this.css(c);
  }

  private scale(): number {
    return this.picture.width > 0 ? this.picture.getBoundingClientRect().width / this.picture.width : 1;
  }

  private place(c: Cursor): void {
    this.stage.style.cursor = "none";
    const r = this.picture.getBoundingClientRect(), s = this.stage.getBoundingClientRect(), k = this.scale();
    this.element.replaceChildren(this.image!);
    this.image!.style.width = `${c.width * k}px`;
    const x = r.left - s.left + (c.x / 65535) * r.width - c.hotspotX * k;
    const y = r.top - s.top + (c.y / 65535) * r.height - c.hotspotY * k;
    this.element.style.transform = `translate(${x}px, ${y}px)`;
  }

  private css(c: Cursor): string {
    const k = Math.min(this.scale(), MAX_CSS_CURSOR / Math.max(c.width, c.height));
    const scaled = document.createElement("canvas");
    scaled.width = Math.max(1, Math.round(c.width * k));
    scaled.height = Math.max(1, Math.round(c.height * k));
    scaled.getContext("2d")!.drawImage(this.image!, 0, 0, scaled.width, scaled.height);
    return `url(${scaled.toDataURL()}) ${Math.round(c.hotspotX * k)} ${Math.round(c.hotspotY * k)}, default`;
  }
}

function toCanvas(c: Cursor): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = c.width;
  canvas.height = c.height;
  canvas.getContext("2d")!.putImageData(new ImageData(new Uint8ClampedArray(c.rgba!), c.width, c.height), 0, 0);
  return canvas;
}
