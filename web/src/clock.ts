// The offset between the host's clock and ours, from ping and pong. The sample with the smallest round trip of the last
// minute is the most honest one: queueing only ever adds to it.

/** Samples that are remembered; at one a second, a minute. */
const WINDOW = 60;

export class Clock {
  /** Host time minus viewer time in microseconds; null before the first pong. */
  offset: number | null = null;
  /** Smoothed round trip in microseconds; 0 before the first pong. */
  rtt = 0;
  /** Smallest round trip of the window in microseconds. */
  minRTT = 0;
  private samples: { rtt: number; offset: number }[] = [];

  /** A pong to a ping sent at viewerTime came at now; all in microseconds. */
  pong(viewerTime: number, hostTime: number, now: number): void {
    const rtt = now - viewerTime;
    if (rtt < 0) return; // not an answer to us
    this.rtt = this.rtt ? this.rtt + (rtt - this.rtt) / 8 : rtt;
    this.samples.push({ rtt, offset: hostTime - (viewerTime + rtt / 2) });
    if (this.samples.length > WINDOW) this.samples.shift();
    const best = this.samples.reduce((a, b) => (b.rtt < a.rtt ? b : a));
    this.offset = best.offset;
    this.minRTT = best.rtt;
  }

  /** Microseconds from a host time to a viewer time, never negative; null before the first pong. */
  since(hostTime: number, viewerTime: number): number | null {
    return this.offset === null ? null : Math.max(0, viewerTime + this.offset - hostTime);
  }
}

/** performance.now in whole microseconds. */
export function micros(): number {
  return Math.round(performance.now() * 1000);
}
