// What a session measures: stages of the picture's way, input-to-present, rates. For the overlay, for tests and benchmarks.

import type { Clock } from "./clock.js";
import type { Picture } from "./decode.js";
import { Rate, Samples } from "./samples.js";
import type { Stats, VideoHeader } from "./wire.js";

/** The stages of a picture's way, in order; all in microseconds. */
export const STAGES = ["handoff", "encode", "send", "network", "decode", "present", "total"] as const;
export type Stage = (typeof STAGES)[number];

/** Samples that are kept per series: a minute at 60 fps, so that a benchmark can read them once a minute. */
const KEPT = 3600;
/** The overlay shows the last seconds only. */
const RECENT = 240;

export interface Spread { count: number; p50: number; p95: number; p99: number }

export class Measurements {
  readonly stages = Object.fromEntries(STAGES.map((s) => [s, new Samples(KEPT)])) as Record<Stage, Samples>;
  readonly inputs = new Samples(KEPT);
  readonly gaps = new Samples(KEPT);
  private readonly units = new Rate();
  private readonly pictures = new Rate();
  private lastPresented = 0;
  host: Stats | null = null;
  codec = 0;
  keyframes = 0;
  received = 0;
  presentedCount = 0;

  unit(h: VideoHeader, bytes: number, now: number): void {
    this.units.add(now, bytes);
    this.received++;
    this.codec = h.codec;
    if (h.keyframe) this.keyframes++;
  }

  /** A picture is on the screen at `at` (microseconds). */
  presented(p: Picture, clock: Clock, at: number): void {
    this.presentedCount++;
    this.pictures.add(at / 1000, 1);
    if (this.lastPresented) this.gaps.add(at - this.lastPresented);
    this.lastPresented = at;
    if (p.header.repeat) return; // an old picture again: its capture time says nothing
    const h = p.header;
    this.stages.handoff.add(h.handoff);
    this.stages.encode.add(h.encode);
    this.stages.send.add(h.send);
    this.stages.decode.add(p.decoded - p.received);
    this.stages.present.add(at - p.decoded);
    const network = clock.since(h.captureTime + h.handoff + h.encode + h.send, p.received);
    const total = clock.since(h.captureTime, at);
    if (network === null || total === null) return;
    this.stages.network.add(Math.round(network));
    this.stages.total.add(Math.round(total));
  }

  rates(now: number): { fps: number; kbps: number } {
    return { fps: this.pictures.per(now).count, kbps: Math.round((this.units.per(now).sum * 8) / 1000) };
  }

  /** Percentiles of a series in milliseconds; null without samples. recent looks at the last seconds only. */
  spread(s: Samples, recent = false): Spread | null {
    if (s.count === 0) return null;
    const of = recent ? tail(s) : s;
    const ms = (p: number) => Math.round((of.percentile(p) ?? 0) / 10) / 100;
    return { count: s.count, p50: ms(0.5), p95: ms(0.95), p99: ms(0.99) };
  }

  clear(): void {
    for (const s of Object.values(this.stages)) s.clear();
    this.inputs.clear();
    this.gaps.clear();
    this.lastPresented = 0;
  }
}

function tail(s: Samples): Samples {
  const t = new Samples(RECENT);
  for (const v of s.all().slice(-RECENT)) t.add(v);
  return t;
}
