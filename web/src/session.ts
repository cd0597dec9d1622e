// A session from the wish for a desktop to its end: admission, reaching the host, live, reconnecting, hand-over, leaving.
// It wires the parts and decides when to do what; the parts know how.

import type { Area } from "./area.js";
import { Refused, base64, type Candidate, type Connect, type Grant, type Renewed, type Report, type SessionEvent } from "./api.js";
import { Connection } from "./connection.js";
import { Unreachable, race } from "./connect.js";
import { decodable, type Picture } from "./decode.js";
import { Feed, type FeedEvents, type Where } from "./feed.js";
import { InputLatency } from "./feedback.js";
import { tokenOf, unixSeconds, verifiedHashes, withToken } from "./grant.js";
import type { Input } from "./input.js";
import { Pace } from "./pace.js";
import type { Presenter } from "./present.js";
import { pageKey, type PageKey } from "./proof.js";
import type { Signal } from "./signal.js";
import { Measurements } from "./stats.js";
import { UNREACHABLE, ending, offerEnding, refusalEnding, sentence, type Ending } from "./texts.js";
import {
  Code, Path, Role, StreamState, VERSION, encodeLimits, encodeResize, type Cursor, type HostMessage, type Move, type Person, type Untyped, type Welcome, type WireError,
} from "./wire.js";

export type State = "connecting" | "live" | "reconnecting" | "moved" | "ended";

export interface Status {
  state: State;
  /** One line for the person. */
  text: string;
  /** Set for moved and ended. */
  ending?: Ending;
}

export interface SessionConfig {
  signal: Signal;
  connect: Connect;
  /** A session of this person to take back instead of asking for a new one. */
  takeBack?: string;
  presenter(presented: (p: Picture, at: number) => void): Presenter;
  input: Input;
  /** The viewer's area; whoever asks tells the host. */
  size(): Area;
  onStatus(s: Status): void;
  onWelcome(w: Welcome): void;
  onCursor(c: Cursor): void;
  /** Who else is connected, whenever that changes. */
  onPeople(others: Person[]): void;
  onUntyped(u: Untyped): void;
  /** A sentence about something that passes by itself; empty clears it. */
  onNotice(text: string): void;
  onNote(text: string): void;
}

/** Nothing heard for this long (ms), while pings go out every quarter of a second, means that the path is gone. */
const STALL = 1_000;
/** A page in the background has its timers slowed to one a second, so it notices later. */
const STALL_HIDDEN = 4_000;
const WATCH_EVERY = 200;
/** How long the present path is tried alone before the gateway is asked for another one (ms). */
const MOVE_AFTER = 300;
/** How long a hand-over may take before it is given up (ms). */
const HANDOVER_LIMIT = 10_000;
/** How long admission is tried again by itself while the gateway says that waiting helps (ms). */
const ADMISSION_PATIENCE = 30_000;
const RENEW_RETRY = 10_000;
/** Pictures a second for a page in the background: enough to come back to a fresh one. */
const HIDDEN_FPS = 5;

/** Goodbyes of the host after which the session is over for everybody. */
const OVER = new Set<number>([Code.ended, Code.draining, Code.operator, Code.host, Code.grace]);

interface Target { candidates: Candidate[]; hashes: Uint8Array<ArrayBuffer>[]; identity: Uint8Array }

export class Session {
  state: State = "connecting";
  id = "";
  viewer = "";
  readonly m = new Measurements();
  readonly latency = new InputLatency();
  welcome: Welcome | null = null;
  feed: Feed | null = null;
  setupMS = 0;
  reconnects = 0;
  moves = 0;
  leaseExpiry = "";
  private next: Feed | null = null;
  private grant: Grant | null = null;
  private target: Target = { candidates: [], hashes: [], identity: new Uint8Array(0) };
  private key: PageKey | null = null;
  private readonly presenter: Presenter;
  private readonly abort = new AbortController();
  private recovery: AbortController | null = null;
  private renewTimer: ReturnType<typeof setTimeout> | undefined;
  private watchTimer: ReturnType<typeof setInterval> | undefined;
  private watchedAt = 0;
  private startedAt = performance.now();
  private codecs: number[] = [];
  private readonly pace = new Pace();
  private hidden = false;

  constructor(private readonly cfg: SessionConfig) {
    this.presenter = cfg.presenter((p, at) => this.presented(p, at));
  }

  /** The path: as the host sees it, or as the grant called it while the host has not said. */
  get where(): Where | null {
    const w = this.feed?.where;
    if (!w) return null;
    const kind = this.m.host ? (this.m.host.path === Path.relay ? "relay" : "direct") : w.kind;
    return { ...w, kind, relay: kind === "relay" ? w.relay : "" };
  }

  /** Asks for the desktop and connects. Never rejects: how it goes is told by onStatus. */
  async start(): Promise<void> {
    try {
      this.setStatus("connecting", "Asking for a desktop");
      const [grant, codecs] = await Promise.all([this.admit(), decodable()]);
      this.codecs = codecs;
      if (this.abort.signal.aborted) {
        this.viewer = grant.viewer;
        return this.signalEnd("left while connecting", grant.session);
      }
      await this.adopt(grant);
      this.setStatus("connecting", "Reaching the host");
      await this.reachFirst();
    } catch (e) {
      this.fail(e);
    }
  }

  /** The person leaves: Bye to the host, end to the gateway. */
  leave(cause: string): void {
    if (this.abort.signal.aborted) return;
    if (this.id && this.state !== "ended" && this.state !== "moved") this.signalEnd(cause, this.id);
    this.stop(Code.ended, cause);
  }

  /** The viewer's area has another size. */
  resize(): void {
    const { width, height, scale } = this.cfg.size();
    if (this.feed && width && height) this.feed.conn.sendControl(encodeResize(width, height, scale));
  }

  /** The page went to the background or came back: nobody sees what is sent meanwhile. */
  setHidden(hidden: boolean): void {
    if (this.hidden === hidden) return;
    this.hidden = hidden;
    this.sendLimits();
  }

  /** An event of the gateway about this session. */
  event(e: SessionEvent): void {
    if (e.session !== this.id || (e.viewer && e.viewer !== this.viewer) || this.abort.signal.aborted) return;
    this.note(`event ${e.kind} ${e.reason ?? ""}`);
    switch (e.kind) {
      case "ended": return this.end(e.message ? { title: "Session ended", text: sentence(e.message), action: "again" } : ending(Code.ended, ""), true);
      case "offer": return this.end(offerEnding(e.reason ?? "", e.message ?? ""), true);
      case "warning": return this.cfg.onNotice(sentence(e.message ?? ""));
      case "renewed": if (e.renewed) this.renewed(e.renewed); return;
      case "move": if (e.grant) void this.moveTo(e.grant);
    }
  }

  /** Cuts the connection as a failing network would. For tests. */
  drop(): void { this.feed?.conn.drop(); }

  // Admission.

  private async admit(): Promise<Grant> {
    const until = performance.now() + ADMISSION_PATIENCE, key = (this.key = await pageKey());
    for (;;) {
      try {
        if (this.cfg.takeBack) return await this.cfg.signal.request<Grant>("move", { session: this.cfg.takeBack, cause: "taken back", key: key.thumbprint });
        const { width, height } = this.cfg.size();
        return await this.cfg.signal.request<Grant>("connect", { ...this.cfg.connect, width, height, key: key.thumbprint });
      } catch (e) {
        const wait = e instanceof Refused ? e.retrySeconds * 1000 : 0;
        if (!wait || wait > 5_000 || performance.now() + wait > until || this.abort.signal.aborted) throw e;
        this.setStatus("connecting", sentence((e as Refused).message));
        await sleep(wait, this.abort.signal);
      }
    }
  }

  private async adopt(grant: Grant): Promise<void> {
    const hashes = await verifiedHashes(grant, Date.now());
    this.grant = grant;
    this.id = grant.session;
    this.viewer = grant.viewer;
    this.target = { candidates: grant.candidates, hashes, identity: base64(grant.host.identity) };
    this.cfg.signal.keep(grant.session, grant.viewer);
    this.renewAtHalf(grant.lease_expiry);
  }

  private renewAtHalf(expiry: string): void {
    this.leaseExpiry = expiry;
    clearTimeout(this.renewTimer);
    const left = unixSeconds(expiry) * 1000 - Date.now();
    this.renewTimer = setTimeout(() => void this.renew(), Math.max(1_000, left / 2));
  }

  private async renew(): Promise<void> {
    try {
      const r = await this.cfg.signal.request<Renewed>("renew", this.ref());
      if (!this.abort.signal.aborted) this.renewed(r);
    } catch (e) {
      if (this.abort.signal.aborted) return;
      this.note(`lease not renewed: ${text(e)}`);
      this.renewTimer = setTimeout(() => void this.renew(), RENEW_RETRY);
    }
  }

  /** A fresher token, for the next connection attempt. */
  private renewed(r: Renewed): void {
    this.target.candidates = this.target.candidates.map((c) => ({ ...c, url: withToken(c.url, r.token) }));
    this.note("lease renewed");
    this.renewAtHalf(r.lease_expiry);
  }

  /** What the gateway calls this viewer of this session. */
  private ref(cause?: string): { session: string; viewer: string; cause?: string } {
    return { session: this.id, viewer: this.viewer, ...(cause ? { cause } : {}) };
  }

  // Reaching the host.

  private async reachFirst(): Promise<void> {
    try {
      this.use(await this.open(this.target, this.abort.signal));
    } catch (e) {
      if (!(e instanceof Unreachable)) throw e;
      this.note(`unreachable: ${e.message}`);
      this.report("failed");
      await this.moveGrant("no candidate could be reached");
      this.use(await this.open(this.target, this.abort.signal));
    }
    this.setStatus("connecting", "Waiting for the first picture");
    this.watch();
  }

  private async open(t: Target, signal: AbortSignal): Promise<Feed> {
    const won = await race(
      t.candidates,
      (c, s) => Connection.open(c.url, t.hashes, (nonce) => this.key!.prove(nonce, t.identity, tokenOf(c.url)), s),
      (late) => late.close(Code.ended, "another path was faster"),
      signal,
    );
    const where = { kind: won.candidate.kind, relay: won.candidate.relay ?? "", url: won.candidate.url };
    this.note(`reached ${where.kind || "new path"} ${where.relay}`.trim());
    const feed = new Feed(won.value, where, this.feedEvents);
    feed.start({ version: VERSION, ...this.cfg.size(), maxKbps: 0, maxFPS: this.hidden ? HIDDEN_FPS : this.pace.limit, codecs: this.codecs });
    return feed;
  }

  /** Makes feed the one that is seen and that input goes to. */
  private use(feed: Feed): void {
    const old = this.feed;
    this.feed = feed;
    this.m.host = null;
    if (old && old !== feed) old.close(Code.moved, "the session goes on over another path");
    this.cfg.input.attach({
      reliable: (b) => feed.conn.sendInput(b),
      datagram: (b) => feed.conn.sendDatagram(b),
      sent: (id, at) => this.latency.sent(id, at),
    });
  }

  private async moveGrant(cause: string): Promise<void> {
    await this.adopt(await this.cfg.signal.request<Grant>("move", { ...this.ref(cause), key: this.key!.thumbprint }));
  }

  // What a feed tells.

  private readonly feedEvents: FeedEvents = {
    message: (feed, m) => this.message(feed, m),
    unit: (_feed, u) => this.m.unit(u.header, u.data.length, performance.now()),
    picture: (feed, frame, p) => this.picture(feed, frame, p),
    closed: (feed, cause) => this.closed(feed, cause),
    protocolError: (feed, e) => this.protocolError(feed, e),
    note: (t) => this.note(t),
  };

  private message(feed: Feed, m: HostMessage): void {
    if (m.kind === "welcome") return this.welcomed(feed, m);
    if (m.kind === "bye") return this.bye(feed, m.code, m.text);
    if (m.kind === "people") return this.cfg.onPeople(m.others); // over a path that is about to take over as well
    if (feed !== this.feed) return;
    switch (m.kind) {
      case "state": return this.streamState(m.state, m.text);
      case "cursor": return this.cfg.onCursor(m);
      case "stats": this.m.host = m; return;
      case "move": return void this.hostMove(m);
      case "untyped": return this.cfg.onUntyped(m);
      case "resized": this.note(`resized ${m.width}x${m.height}`);
    }
  }

  private welcomed(feed: Feed, w: Welcome): void {
    this.note(`welcome ${w.width}x${w.height} role ${w.role}`);
    if (w.version !== VERSION) return this.end(ending(Code.version, ""));
    if (feed !== this.feed) return;
    this.welcome = w;
    this.cfg.input.enabled = w.input && w.role === Role.control;
    this.cfg.onWelcome(w);
  }

  private streamState(state: number, why: string): void {
    this.note(`host state ${state} ${why}`);
    if (state === StreamState.live) return this.cfg.onNotice("");
    const fallback = state === StreamState.recovering ? "The host restarts its picture." : state === StreamState.draining ? "The host is about to close." : "The desktop is starting.";
    this.cfg.onNotice(sentence(why) || fallback);
  }

  private picture(feed: Feed, frame: VideoFrame, p: Picture): void {
    if (feed === this.next) this.handedOver(feed);
    if (feed !== this.feed || this.abort.signal.aborted) return frame.close();
    this.presenter.show(frame, p, feed.backlog > 1);
    if (this.state !== "live" && !this.recovery) this.live();
  }

  private presented(p: Picture, at: number): void {
    const feed = this.feed;
    if (!feed) return;
    this.m.presented(p, feed.clock, at);
    this.keepPace(feed, at / 1000);
    feed.reports.presented(p.header.sequence, at);
    for (const r of this.latency.presented(p.header.lastInput, at)) {
      this.m.inputs.add(r.latency);
      feed.reports.input(r);
    }
  }

  /** Asks for fewer pictures while this machine cannot keep up. */
  private keepPace(feed: Feed, now: number): void {
    const limit = this.pace.update(now, feed.backlog, this.m.rates(now).fps);
    if (limit === null) return;
    this.note(limit ? `falling behind: at most ${limit} fps` : "keeping up again: any rate");
    this.sendLimits();
  }

  private sendLimits(): void {
    const fps = this.hidden ? HIDDEN_FPS : this.pace.limit;
    this.feed?.conn.sendControl(encodeLimits(0, fps));
  }

  private live(): void {
    if (this.setupMS === 0) {
      this.setupMS = Math.round(performance.now() - this.startedAt);
      this.report("connected");
    }
    this.setStatus("live", "Live");
  }

  private bye(feed: Feed, code: number, why: string): void {
    this.note(`bye ${code} ${why}`);
    if (feed === this.next) return this.dropNext("the new path said bye");
    if (feed !== this.feed || code === Code.moved) return;
    this.end(ending(code, why), OVER.has(code));
  }

  private protocolError(feed: Feed, e: WireError): void {
    this.note(e.message);
    feed.close(Code.protocol, e.message);
    if (feed === this.feed) this.end(ending(Code.protocol, ""));
    else if (feed === this.next) this.next = null;
  }

  // Losing and finding the host again.

  private closed(feed: Feed, cause: string): void {
    this.note(`closed: ${cause}`);
    if (feed === this.next) return this.dropNext(cause);
    if (feed !== this.feed || this.abort.signal.aborted) return;
    if (this.next) return; // a hand-over is under way: its first picture takes over
    void this.recover();
  }

  private watch(): void {
    this.watchedAt = performance.now();
    clearInterval(this.watchTimer);
    this.watchTimer = setInterval(() => this.check(), WATCH_EVERY);
  }

  private check(): void {
    const now = performance.now(), late = now - this.watchedAt > STALL / 2 + WATCH_EVERY && !document.hidden;
    this.watchedAt = now;
    if (late || !this.feed) return; // we were held up ourselves: what came meanwhile has not been read yet
    const stalled = this.feed.over || this.feed.heardAgo > (document.hidden ? STALL_HIDDEN : STALL);
    if (stalled && !this.recovery) void this.recover();
    else if (!stalled && this.recovery && this.state === "reconnecting") this.recovery.abort("the path is back");
  }

  /** Tries to get back to the same session until its grace time has passed. The old path may come back meanwhile. */
  private async recover(): Promise<void> {
    if (this.recovery || this.state === "ended" || this.state === "moved") return;
    const lost = this.feed!, abort = (this.recovery = new AbortController());
    const until = performance.now() + 1000 * (this.grant?.grace_seconds || 10);
    this.setStatus("reconnecting", "Connection lost. Reconnecting");
    this.report("lost");
    for (let n = 0; ; n++) {
      try {
        const feed = await this.anyPath(abort.signal);
        this.recovery = null;
        this.reconnects++;
        this.use(feed);
        return;
      } catch (e) {
        if (this.abort.signal.aborted) return;
        if (abort.signal.aborted) return this.cameBack(lost);
        this.note(`reconnect ${n + 1}: ${text(e)}`);
        if (e instanceof Refused && e.reason === "no_session") return this.end(refusalEnding(e.reason, e.message));
        if (performance.now() > until) return this.end(ending(Code.grace, ""));
      }
      await sleep(Math.min(1_000, 150 * (n + 1)), abort.signal);
      if (abort.signal.aborted) return this.abort.signal.aborted ? undefined : this.cameBack(lost);
    }
  }

  private cameBack(feed: Feed): void {
    this.recovery = null;
    if (this.feed === feed) this.live();
  }

  /** The present candidates, and soon after also what the gateway offers instead; whatever opens first. */
  private async anyPath(outer: AbortSignal): Promise<Feed> {
    const abort = new AbortController();
    const signal = AbortSignal.any([outer, abort.signal, this.abort.signal]);
    const present = this.open(this.target, signal);
    const other = (async () => {
      await Promise.race([sleep(MOVE_AFTER, signal), present.then(() => undefined, () => undefined)]);
      if (signal.aborted || !this.cfg.signal.open) throw new Unreachable(["the gateway was not asked"]);
      await this.moveGrant("connection lost");
      return this.open(this.target, signal);
    })();
    const both = [present, other];
    try {
      const feed = await Promise.any(both);
      for (const p of both) void p.then((f) => { if (f !== feed) f.close(Code.ended, "another path was faster"); }, () => undefined);
      return feed;
    } catch (e) {
      const errors = e instanceof AggregateError ? (e.errors as unknown[]) : [e];
      throw errors.find((x) => x instanceof Refused && x.reason === "no_session") ?? errors[0];
    } finally {
      abort.abort();
    }
  }

  // Hand-over: a second connection, and a switch on its first picture.

  private async hostMove(m: Move): Promise<void> {
    // The hashes came over the connection that they replace, whose host was verified. Which kind of path it is, Stats will tell.
    await this.handOver({
      candidates: [{ kind: "", priority: 0, url: m.url }],
      hashes: m.hashes.length > 0 ? m.hashes.map((h) => new Uint8Array(h)) : this.target.hashes,
      identity: this.target.identity,
    });
  }

  private async moveTo(grant: Grant): Promise<void> {
    try {
      await this.adopt(grant);
    } catch (e) {
      return this.note(`move refused: ${text(e)}`);
    }
    await this.handOver(this.target);
  }

  private async handOver(target: Target): Promise<void> {
    if (this.recovery) {
      this.target = target; // recovery uses it with its next try
      return;
    }
    this.dropNext("a newer path was offered");
    this.note("hand-over starts");
    try {
      const feed = await this.open(target, AbortSignal.any([this.abort.signal, AbortSignal.timeout(HANDOVER_LIMIT)]));
      if (this.abort.signal.aborted) return feed.close(Code.ended, "left");
      this.target = target;
      this.next = feed;
      setTimeout(() => { if (this.next === feed) this.dropNext("no picture over the new path"); }, HANDOVER_LIMIT);
    } catch (e) {
      this.note(`hand-over failed: ${text(e)}`);
    }
  }

  private handedOver(feed: Feed): void {
    this.next = null;
    this.moves++;
    this.use(feed);
    this.note(`handed over to ${feed.where.kind} ${feed.where.relay}`);
  }

  private dropNext(cause: string): void {
    const feed = this.next;
    if (!feed) return;
    this.next = null;
    this.note(`hand-over dropped: ${cause}`);
    feed.close(Code.ended, cause);
    if (this.feed && (this.feed.over || this.feed.heardAgo > STALL)) void this.recover();
  }

  // Ending.

  private fail(e: unknown): void {
    if (this.abort.signal.aborted) return;
    this.note(`failed: ${text(e)}`);
    if (e instanceof Refused) return this.end(refusalEnding(e.reason, e.message));
    this.end(e instanceof Unreachable ? UNREACHABLE : { title: "Something went wrong", text: sentence(text(e)), action: "again" });
  }

  /** over: the gateway knows or will hear from the host, with the reason. */
  private end(how: Ending, over = false): void {
    if (this.abort.signal.aborted) return;
    const state = how.action === "takeBack" ? "moved" : "ended";
    if (state === "ended" && this.id && !over) this.signalEnd(how.title, this.id);
    this.stop(Code.ended, how.title);
    this.setStatus(state, how.title, how);
  }

  private stop(code: number, why: string): void {
    this.abort.abort();
    this.recovery?.abort();
    clearTimeout(this.renewTimer);
    clearInterval(this.watchTimer);
    this.cfg.input.enabled = false;
    this.cfg.input.attach(null);
    this.cfg.signal.forget(this.id);
    this.next?.close(code, why);
    this.feed?.close(code, why);
  }

  private signalEnd(cause: string, session: string): void {
    this.cfg.signal.request("end", { session, viewer: this.viewer, cause }).catch(() => undefined); // the host was told as well, and its grace time ends it
  }

  private report(outcome: string): void {
    const w = this.where;
    const r: Report = { session: this.id, outcome };
    if (w) r.path = w.kind;
    if (w?.relay) r.relay = w.relay;
    if (outcome === "connected") r.setup_ms = this.setupMS;
    this.cfg.signal.request("report", r).catch(() => undefined); // a measurement, never worth troubling the person
  }

  private setStatus(state: State, t: string, how?: Ending): void {
    this.state = state;
    this.note(`${state}: ${t}`);
    this.cfg.onStatus({ state, text: t, ending: how });
  }

  private note(t: string): void { this.cfg.onNote(t); }
}

/** Resolves after ms, or at once when the signal ends. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

function text(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

