// A viewer that decodes slower than the host sends would fall behind further and further. Pace notices it by the units that wait
// inside the decoder, asks for fewer pictures, and later for more again. Pure: times are arguments (milliseconds).

/** Units waiting in the decoder that are more than jitter: a tenth of a second at 60 fps. */
const BEHIND = 6;
/** How long it must stay so before fewer pictures are asked for. */
const PATIENCE = 150;
/** A session's first pictures say nothing (ms): the decoder starts, scripts are compiled, and a rate cannot be told yet. */
const START = 2_000;
/** Between two changes: the host's answer must be seen first. */
const COOLDOWN = 1_000;
/** Calm for this long, more is tried. */
const CALM = 6_000;
const SLOWER = 0.7;
const FASTER = 1.3;
const LEAST = 10;

export class Pace {
  /** Pictures a second that were asked for; 0: as the host likes. */
  limit = 0;
  private firstAt: number | null = null;
  private behindSince: number | null = null;
  private changedAt = -Infinity;
  private calmSince = 0;
  private before = 0;

  /** Takes how many units wait and how many were presented in the last second. Returns a new limit, or null. */
  update(now: number, waiting: number, fps: number): number | null {
    this.firstAt ??= now;
    if (now - this.firstAt < START) return null;
    if (waiting >= BEHIND) {
      this.behindSince ??= now;
      this.calmSince = now;
    } else {
      this.behindSince = null;
    }
    if (now - this.changedAt < COOLDOWN) return null;
    if (this.behindSince !== null && now - this.behindSince >= PATIENCE) return this.change(now, this.slower(fps));
    if (this.limit > 0 && now - this.calmSince >= CALM) return this.change(now, this.faster());
    return null;
  }

  private slower(fps: number): number {
    const from = this.limit || Math.max(fps, LEAST);
    if (!this.limit) this.before = from;
    return Math.max(LEAST, Math.floor(from * SLOWER));
  }

  private faster(): number {
    const next = Math.ceil(this.limit * FASTER);
    return next >= this.before ? 0 : next;
  }

  private change(now: number, limit: number): number | null {
    this.changedAt = this.calmSince = now;
    this.behindSince = null;
    if (limit === this.limit) return null;
    return (this.limit = limit);
  }
}
