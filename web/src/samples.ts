// Series of measurements with percentiles, for the overlay, tests and benchmarks.

/** Samples keeps the last `size` values. */
export class Samples {
  private values: number[] = [];
  private at = 0;
  constructor(private readonly size: number) {}

  add(v: number): void {
    if (this.values.length < this.size) this.values.push(v);
    else this.values[this.at] = v;
    this.at = (this.at + 1) % this.size;
  }

  /** The values, oldest first. */
  all(): number[] {
    return this.values.length < this.size ? this.values.slice() : this.values.slice(this.at).concat(this.values.slice(0, this.at));
  }

  get count(): number { return this.values.length; }

  clear(): void { this.values = []; this.at = 0; }

  /** Nearest-rank percentile, p in 0..1; null without values. */
  percentile(p: number): number | null {
    if (this.values.length === 0) return null;
    const sorted = this.values.slice().sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))]!;
  }
}

/** Rate counts events and bytes over the last second. Times in milliseconds. */
export class Rate {
  private events: { at: number; n: number }[] = [];

  add(now: number, n: number): void {
    this.events.push({ at: now, n });
    this.trim(now);
  }

  /** Events and their sum per second. */
  per(now: number): { count: number; sum: number } {
    this.trim(now);
    return { count: this.events.length, sum: this.events.reduce((a, e) => a + e.n, 0) };
  }

  private trim(now: number): void {
    let i = 0;
    while (i < this.events.length && this.events[i]!.at < now - 1000) i++;
    if (i > 0) this.events.splice(0, i);
  }
}
