// Access units arrive on streams of their own, so in any order. Reorder hands them to the decoder in order, and says when
// only a keyframe helps. It is pure: time comes in as an argument (milliseconds).

import { after, type VideoHeader } from "./wire.js";

export interface Unit { header: VideoHeader; data: Uint8Array; received: number }

/** Units held for a missing one; a second at 60 fps. Beyond it everything waits for a keyframe. */
export const MAX_HELD = 64;

export class Reorder {
  /** Units given up since the start. */
  lost = 0;
  /** Units that came after they had been given up. */
  late = 0;
  /** Highest sequence received. */
  highest = 0;
  private next = 0;
  private started = false;
  private broken = true; // nothing decodes before a keyframe
  private held = new Map<number, Unit>();
  private gapSince: number | null = null;

  /** Takes a unit and returns those that are to be decoded now, in order. */
  push(unit: Unit, now: number): Unit[] {
    const seq = unit.header.sequence;
    if (!this.started || after(seq, this.highest)) this.highest = seq;
    if (this.started && after(this.next, seq)) {
      this.late++;
      return [];
    }
    if (unit.header.keyframe) return this.jump(unit, now);
    if (!this.broken && seq === this.next) return this.drain(unit, now);
    return this.hold(unit, now);
  }

  /** The decoder lost its references, or a stream was cut off: go on at the next keyframe. */
  needKeyframe(now: number): void {
    this.broken = true;
    this.gapSince ??= now;
  }

  /** True when a keyframe should be asked for: a unit has been missing for longer than patience (ms). */
  wantsKeyframe(now: number, patience: number): boolean {
    return this.gapSince !== null && ((this.broken && this.started) || now - this.gapSince >= patience);
  }

  private jump(unit: Unit, now: number): Unit[] {
    const seq = unit.header.sequence;
    if (this.started) this.lost += Math.max(0, (seq - this.next) | 0);
    for (const s of this.held.keys()) if (!after(s, seq)) this.held.delete(s);
    this.started = true;
    this.broken = false;
    return this.drain(unit, now);
  }

  private drain(unit: Unit, now: number): Unit[] {
    const out = [unit];
    this.next = (unit.header.sequence + 1) >>> 0;
    for (let u = this.held.get(this.next); u; u = this.held.get(this.next)) {
      this.held.delete(this.next);
      out.push(u);
      this.next = (this.next + 1) >>> 0;
    }
    this.gapSince = this.held.size > 0 ? now : null;
    return out;
  }

  private hold(unit: Unit, now: number): Unit[] {
    if (this.held.size >= MAX_HELD) {
      this.held.clear();
      this.broken = true;
    }
    this.held.set(unit.header.sequence, unit);
    this.gapSince ??= now;
    return [];
  }
}

/** Pli limits requests for keyframes: one per round trip, and never more than ten a second. */
export class Pli {
  private last = -Infinity;

  /** True when a request may be sent now; it counts as sent. Times in milliseconds. */
  ask(now: number, rtt: number): boolean {
    if (now - this.last < Math.max(100, 1.5 * rtt)) return false;
    this.last = now;
    return true;
  }
}
