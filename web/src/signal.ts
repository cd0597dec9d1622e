// The signaling WebSocket: requests with ids, events, reconnect with backoff. A request survives a reconnect and is sent again
// under the same id, so that nothing is allocated twice. A running stream never depends on it.

import { Refused, type Refusal, type Resumed, type SessionEvent } from "./api.js";

/** The parts of WebSocket that are used, so that tests can hand in their own. */
export interface Socket {
  send(text: string): void;
  close(): void;
  onopen: ((e: unknown) => void) | null;
  onmessage: ((e: { data: unknown }) => void) | null;
  onclose: ((e: unknown) => void) | null;
}

export interface SignalConfig {
  open(): Socket;
  onEvent(e: SessionEvent): void;
  /** The socket opened or went away. */
  onState(open: boolean): void;
  /** Called when reconnecting keeps failing: the login may be gone, which a WebSocket cannot tell. */
  onTrouble(failures: number): void;
  random(): number;
}

/** A request without an answer for this long is given up (ms): longer than the gateway lets an admission wait. */
const REQUEST_LIMIT = 45_000;
const BACKOFF_FIRST = 250;
const BACKOFF_LAST = 8_000;

interface Waiting { type: string; text: string; resolve(v: unknown): void; reject(e: Error): void; timer: ReturnType<typeof setTimeout> }

/** The pause before attempt n (from 0) in milliseconds: doubling, with up to half of it at random. */
export function backoff(n: number, random: number): number {
  return Math.min(BACKOFF_LAST, BACKOFF_FIRST * 2 ** Math.min(n, 10)) * (0.75 + 0.5 * random);
}

export class Signal {
  private socket: Socket | null = null;
  private isOpen = false;
  private stopped = false;
  private failures = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private waiting = new Map<string, Waiting>();
  private sessions = new Map<string, string>();
  private readonly prefix: string;
  private counter = 0;

  constructor(private readonly cfg: SignalConfig) {
    this.prefix = Array.from({ length: 20 }, () => Math.floor(cfg.random() * 36).toString(36)).join("");
  }

  get open(): boolean { return this.isOpen; }

  /** Opens the socket and keeps it open until stop. */
  start(): void {
    this.stopped = false;
    if (!this.socket) this.connect();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.retry);
    this.socket?.close();
    for (const w of this.waiting.values()) {
      clearTimeout(w.timer);
      w.reject(new Refused("stopped", "The page was left."));
    }
    this.waiting.clear();
  }

  /** Sends one request and waits for its answer, over as many sockets as it takes. Rejects with Refused. */
  request<T>(type: string, data: unknown): Promise<T> {
    const id = `${this.prefix}-${++this.counter}`;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Refused("timeout", "The gateway did not answer in time. Try again.", 2));
      }, REQUEST_LIMIT);
      const text = JSON.stringify({ type, id, data });
      this.waiting.set(id, { type, text, resolve: resolve as (v: unknown) => void, reject, timer });
      if (this.isOpen) this.socket!.send(text);
    });
  }

  /** Sessions that are asked for after a reconnect. */
  keep(session: string, viewer: string): void { this.sessions.set(session, viewer); }
  forget(session: string): void { this.sessions.delete(session); }

  private connect(): void {
    const s = this.cfg.open();
    this.socket = s;
    s.onopen = () => this.opened(s);
    s.onmessage = (e) => { if (typeof e.data === "string") this.message(e.data); };
    s.onclose = () => this.closed(s);
  }

  private opened(s: Socket): void {
    this.isOpen = true;
    this.dropOldResume();
    const again = [...this.waiting.values()];
    if (this.sessions.size > 0) this.resume();
    for (const w of again) s.send(w.text);
    this.cfg.onState(true);
  }

  /** A resume that the last socket left unanswered is asked anew, not twice. */
  private dropOldResume(): void {
    for (const [id, w] of this.waiting) {
      if (w.type !== "resume") continue;
      this.waiting.delete(id);
      clearTimeout(w.timer);
      w.reject(new Refused("stopped", "The socket was lost."));
    }
  }

  private resume(): void {
    this.request<Resumed>("resume", { sessions: [...this.sessions.keys()], viewers: Object.fromEntries(this.sessions) }).then(
      (r) => {
        for (const e of r.ended ?? []) this.cfg.onEvent(e);
      },
      () => {
        // Without an answer the stream goes on by itself; the next reconnect asks again.
      },
    );
  }

  private closed(s: Socket): void {
    if (this.socket !== s) return;
    const was = this.isOpen;
    this.socket = null;
    this.isOpen = false;
    if (was) this.cfg.onState(false);
    if (this.stopped) return;
    if (was) this.failures = 0;
    else this.cfg.onTrouble(this.failures + 1);
    this.retry = setTimeout(() => this.connect(), backoff(this.failures++, this.cfg.random()));
  }

  private message(text: string): void {
    let m: { type?: string; id?: string; data?: unknown };
    try {
      m = JSON.parse(text) as typeof m;
    } catch {
      return; // not ours
    }
    this.failures = 0;
    if (m.type === "event" && m.data) return this.cfg.onEvent(m.data as SessionEvent);
    const w = m.id === undefined ? undefined : this.waiting.get(m.id);
    if (!w) return;
    this.waiting.delete(m.id!);
    clearTimeout(w.timer);
    if (m.type === "reply") return w.resolve(m.data);
    const r = (m.data ?? {}) as Partial<Refusal>;
    w.reject(new Refused(r.reason ?? "refused", r.message ?? "The gateway refused.", r.retry_seconds ?? 0));
  }
}
