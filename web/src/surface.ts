// window.wavry: what tests, benchmarks and support may read of the running page. docs/viewer.md is its contract.

import { notes } from "./notes.js";
import type { Presenter } from "./present.js";
import type { Session } from "./session.js";
import { STAGES, type Spread, type Stage } from "./stats.js";
import type { Stats } from "./wire.js";

export interface Snapshot {
  state: string; session: string; role: string; path: string; relay: string; url: string;
  width: number; height: number; fps: number; kbps: number; rtt: number; codec: string;
  received: number; presented: number; drawn: number; replaced: number; keyframes: number; keyframeRequests: number; lost: number; late: number;
  droppedDatagrams: number; reconnects: number; moves: number; setupMS: number; leaseExpiry: string;
  stages: Record<Stage, Spread | null>; inputToPresent: Spread | null; gaps: Spread | null;
  host: Omit<Stats, "kind"> | null;
}

const CODECS: Record<number, string> = { 1: "h264", 2: "hevc", 3: "av1" };

/** Everything measured, latencies in milliseconds. recent looks at the last seconds only. */
export function snapshot(s: Session, p: Presenter | null, recent = false): Snapshot {
  const { m, feed } = s;
  const rates = m.rates(performance.now());
  return {
    state: s.state, session: s.id, role: s.welcome ? (s.welcome.role === 1 ? "control" : "watch") : "",
    path: s.where?.kind ?? "", relay: s.where?.relay ?? "", url: s.where?.url ?? "",
    width: p?.width ?? 0, height: p?.height ?? 0, fps: rates.fps, kbps: rates.kbps, rtt: Math.round((feed?.clock.rtt ?? 0) / 10) / 100,
    codec: CODECS[m.codec] ?? "", received: m.received, presented: m.presentedCount, drawn: p?.drawn ?? 0, replaced: p?.replaced ?? 0,
    keyframes: m.keyframes, keyframeRequests: feed?.keyframeRequests ?? 0, lost: feed?.reorder.lost ?? 0, late: feed?.reorder.late ?? 0,
    droppedDatagrams: feed?.conn.droppedDatagrams ?? 0,
    reconnects: s.reconnects, moves: s.moves, setupMS: s.setupMS, leaseExpiry: s.leaseExpiry,
    stages: Object.fromEntries(STAGES.map((k) => [k, m.spread(m.stages[k], recent)])) as Record<Stage, Spread | null>,
    inputToPresent: m.spread(m.inputs, recent), gaps: m.spread(m.gaps, recent), host: m.host,
  };
}

let session: Session | null = null;
let presenter: (() => Presenter) | null = null;

/** Points window.wavry at the running session. */
export function publish(s: Session | null, p: (() => Presenter) | null): void {
  session = s;
  presenter = p;
}

/** Reads pixels of the last drawn picture: RGBA, row by row, in the picture's own pixels. */
function read(x: number, y: number, width: number, height: number): number[] {
  const canvas = presenter?.().canvas;
  if (!canvas) return [];
  const copy = new OffscreenCanvas(width, height);
  const ctx = copy.getContext("2d", { willReadFrequently: true })!;
  ctx.drawImage(canvas, x, y, width, height, 0, 0, width, height);
  return [...ctx.getImageData(0, 0, width, height).data];
}

const surface = {
  /** connecting, live, reconnecting, moved, ended; or none without a session. */
  get state(): string { return session?.state ?? "none"; },
  snapshot: () => (session ? snapshot(session, presenter?.() ?? null) : null),
  /** Raw samples in microseconds, oldest first: a stage's name, "inputs" or "gaps". */
  samples(name: string): number[] {
    if (!session) return [];
    if (name === "inputs") return session.m.inputs.all();
    if (name === "gaps") return session.m.gaps.all();
    return session.m.stages[name as Stage]?.all() ?? [];
  },
  /** Forgets all samples: the start of a measurement. */
  clear: () => session?.m.clear(),
  pixel: (x: number, y: number) => read(x, y, 1, 1),
  read,
  /** What happened so far, one line each: milliseconds since the page was opened, and what. */
  log: () => notes.slice(),
  /** Cuts the connection without a word, as a failing network would. */
  drop: () => session?.drop(),
};

declare global {
  interface Window { wavry: typeof surface }
}
window.wavry = surface;
