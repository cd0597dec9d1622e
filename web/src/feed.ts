// A Feed is one connection's pictures: connection, order, decoder, clock and reports. A session has one, and during a hand-over
// a second one.

import { Clock, micros } from "./clock.js";
import type { Connection } from "./connection.js";
import { Decoder, MAX_BACKLOG, type Picture } from "./decode.js";
import { Reports } from "./feedback.js";
import { Pli, Reorder, type Unit } from "./reorder.js";
import { encodeFeedback, encodeHello, encodeKeyframe, encodePing, type Hello, type HostMessage, type WireError } from "./wire.js";

/** Reports leave at least this often (ms): 25 a second; a NAT that changed our address is found within it. */
const FEEDBACK_EVERY = 40;
/** And not more often than this (ms), however many units arrive: 50 a second. */
const FEEDBACK_GAP = 20;
const TICK = 20;
/** Pings: fast at first, to set the clock, then often enough to see a stall. */
const FIRST_PINGS = 8;
const FIRST_PING_EVERY = 60;
const PING_EVERY = 250;
/** A missing unit is waited for this long (ms), or two round trips, before a keyframe is asked for. */
const PATIENCE = 60;

/** Where a feed leads, for people and for reports. */
export interface Where { kind: string; relay: string; url: string }

export interface FeedEvents {
  message(feed: Feed, m: HostMessage): void;
  unit(feed: Feed, u: Unit): void;
  picture(feed: Feed, frame: VideoFrame, p: Picture): void;
  closed(feed: Feed, cause: string): void;
  protocolError(feed: Feed, e: WireError): void;
  note(text: string): void;
}

export class Feed {
  readonly clock = new Clock();
  readonly reorder = new Reorder();
  readonly reports = new Reports();
  keyframeRequests = 0;
  private readonly pli = new Pli();
  private readonly decoder: Decoder;
  private timer: ReturnType<typeof setInterval> | undefined;
  private feedbackAt = 0;
  private pingAt = 0;
  private pings = 0;
  private lastDecoded = 0;
  private stopped = false;

  constructor(readonly conn: Connection, readonly where: Where, private readonly events: FeedEvents) {
    this.decoder = new Decoder({
      picture: (frame, p) => this.decoded(frame, p),
      failed: (cause) => this.decoderFailed(cause),
    });
  }

  /** The connection is gone or was closed. */
  get over(): boolean { return this.stopped; }

  /** Units inside the decoder. */
  get backlog(): number { return this.decoder.backlog; }

  get heardAgo(): number { return performance.now() - this.conn.lastHeard; }

  start(hello: Hello): void {
    this.conn.run({
      message: (m) => this.events.message(this, m),
      unit: (u) => this.unit(u),
      unitLost: () => this.reorder.needKeyframe(performance.now()),
      pong: (p, now) => this.clock.pong(p.viewerTime, p.hostTime, now),
      closed: (cause) => this.finish(() => this.events.closed(this, cause)),
      protocolError: (e) => this.events.protocolError(this, e),
    });
    this.conn.sendHello(encodeHello(hello));
    this.timer = setInterval(() => this.tick(), TICK);
    this.tick();
  }

  close(code: number, text: string): void {
    this.finish(() => this.conn.close(code, text));
  }

  private finish(then: () => void): void {
    if (this.stopped) return;
    this.stopped = true;
    clearInterval(this.timer);
    this.decoder.reset();
    then();
  }

  private unit(u: Unit): void {
    const now = performance.now();
    this.reports.received(u.header.sequence, u.received);
    this.events.unit(this, u);
    for (const ready of this.reorder.push(u, now)) this.decode(ready, now);
    if (now - this.feedbackAt >= FEEDBACK_GAP) this.feedback(now);
    this.askForKeyframe(now);
  }

  private decode(u: Unit, now: number): void {
    if (this.decoder.backlog > MAX_BACKLOG) {
      this.events.note("decoder too slow: going on at the next keyframe");
      this.decoder.reset();
      this.reorder.needKeyframe(now);
      return;
    }
    this.decoder.decode(u);
  }

  private decoded(frame: VideoFrame, p: Picture): void {
    this.lastDecoded = p.header.sequence;
    this.reports.decoded(p.header.sequence, p.decoded);
    this.events.picture(this, frame, p);
  }

  private decoderFailed(cause: string): void {
    if (this.stopped) return;
    this.events.note(`decoder: ${cause}`);
    this.reorder.needKeyframe(performance.now());
    this.askForKeyframe(performance.now());
  }

  private tick(): void {
    const now = performance.now();
    if (now - this.pingAt >= (this.pings < FIRST_PINGS ? FIRST_PING_EVERY : PING_EVERY)) this.ping(now);
    if (now - this.feedbackAt >= FEEDBACK_EVERY - TICK / 4) this.feedback(now);
    this.askForKeyframe(now);
  }

  private ping(now: number): void {
    this.pingAt = now;
    this.conn.sendDatagram(encodePing(this.pings++ & 0xffff, micros()));
  }

  private feedback(now: number): void {
    this.feedbackAt = now;
    this.conn.sendDatagram(encodeFeedback(this.reports.take(micros(), this.reorder.highest, this.reorder.lost, this.decoder.backlog)));
  }

  private askForKeyframe(now: number): void {
    const rtt = this.clock.rtt / 1000;
    if (!this.reorder.wantsKeyframe(now, Math.max(PATIENCE, 2 * rtt)) || !this.pli.ask(now, rtt)) return;
    this.keyframeRequests++;
    this.events.note(`keyframe asked for after ${this.lastDecoded}`);
    this.conn.sendControl(encodeKeyframe(0, this.lastDecoded));
  }
}
