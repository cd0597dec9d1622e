// Pictures to the screen. The first picture since the last screen refresh is drawn at once; a later one of the same refresh, and
// any while the decoder has more to come, replaces what waits and is drawn right before the refresh: newest only.
// A picture counts as presented at the animation frame after it was drawn. See DESIGN.md for the measurement.

import { micros } from "./clock.js";
import type { Picture } from "./decode.js";

export class Presenter {
  /** Pictures that were drawn, and those that a newer one replaced before. */
  drawn = 0;
  replaced = 0;
  /** The size of the last picture in pixels. */
  width = 0;
  height = 0;
  private readonly ctx: CanvasRenderingContext2D;
  private waiting: { frame: VideoFrame; p: Picture } | null = null;
  private shown: Picture | null = null;
  private scheduled = false;

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly presented: (p: Picture, at: number) => void,
    private readonly resized: (width: number, height: number) => void,
  ) {
    const ctx = canvas.getContext("2d", { alpha: false, desynchronized: true });
    if (!ctx) throw new Error("this browser gives no 2d canvas");
    this.ctx = ctx;
  }

  /** Takes over frame and closes it. more: the decoder has newer ones in work. */
  show(frame: VideoFrame, p: Picture, more: boolean): void {
    if (more || this.waiting || (this.scheduled && this.shown)) {
      this.waiting?.frame.close();
      if (this.waiting) this.replaced++;
      this.waiting = { frame, p };
      this.schedule();
      return;
    }
    this.draw(frame, p);
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => this.refresh());
  }

  private refresh(): void {
    this.scheduled = false;
    const w = this.waiting;
    this.waiting = null;
    if (w) {
      if (this.shown) this.replaced++;
      this.draw(w.frame, w.p);
    }
    const shown = this.shown;
    this.shown = null;
    if (shown) this.presented(shown, micros());
  }

  private draw(frame: VideoFrame, p: Picture): void {
    const { displayWidth: w, displayHeight: h } = frame;
    if (w !== this.width || h !== this.height) {
      this.canvas.width = this.width = w;
      this.canvas.height = this.height = h;
      this.resized(w, h);
    }
    this.ctx.drawImage(frame, 0, 0, w, h);
    frame.close();
    this.drawn++;
    this.shown = p;
  }
}
