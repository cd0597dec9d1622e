// One WebTransport session with a host: opens it, says Hello, hands out messages, units and pongs, and takes what is to be
// sent. It decides nothing. Streams are always read at once: the browser grants only about a hundred of them.

import { micros } from "./clock.js";
import type { Unit } from "./reorder.js";
import {
  MAX_ACCESS_UNIT, MessageReader, STREAM_CONTROL, STREAM_INPUT, STREAM_VIDEO, VIDEO_HEADER_LEN, WireError,
  encodeBye, parseDatagram, parseVideoHeader, type HostMessage, type Pong,
} from "./wire.js";

export interface ConnectionEvents {
  message(m: HostMessage): void;
  unit(u: Unit): void;
  /** A unit's stream was cut off before its end. */
  unitLost(): void;
  pong(p: Pong, now: number): void;
  /** The transport is gone; not called after close(). */
  closed(cause: string): void;
  /** The host sent something that this version does not know. */
  protocolError(e: WireError): void;
}

/** How long a handshake may take (ms). QUIC itself would try for far longer. */
const OPEN_LIMIT = 8_000;
/** Datagrams that may wait in the browser; its own high-water mark is one, which would drop every second motion. */
const MAX_WAITING = 32;
/** A motion or report older than this (ms) is not worth sending. */
const MAX_AGE = 100;

export class Connection {
  /** performance.now() of the last byte from the host. */
  lastHeard = performance.now();
  /** Datagrams that were malformed. */
  badDatagrams = 0;
  /** Datagrams that were not sent because too many waited. */
  droppedDatagrams = 0;
  private datagramsWaiting = 0;
  private over = false;
  private events: ConnectionEvents | null = null;

  private constructor(
    private readonly wt: WebTransport,
    private readonly control: WritableStreamDefaultWriter<Uint8Array>,
    private readonly controlReader: ReadableStreamDefaultReader<Uint8Array>,
    private readonly messages: MessageReader,
    private readonly proof: Uint8Array,
    private readonly input: WritableStreamDefaultWriter<Uint8Array>,
    private readonly datagrams: WritableStreamDefaultWriter<Uint8Array>,
  ) {}

  /**
   * Opens url, accepting only certificates with one of the hashes (SHA-256), and waits for the host's challenge. prove answers its nonce with the
   * Proof message.
   */
  static async open(url: string, hashes: Uint8Array<ArrayBuffer>[], prove: (nonce: Uint8Array) => Promise<Uint8Array>, signal: AbortSignal): Promise<Connection> {
    const wt = new WebTransport(url, {
      serverCertificateHashes: hashes.map((value) => ({ algorithm: "sha-256", value })),
      congestionControl: "low-latency",
      requireUnreliable: true,
    });
    wt.closed.catch(() => undefined); // reported through ready, or by run
    const timer = setTimeout(() => wt.close(), OPEN_LIMIT);
    const leave = () => wt.close();
    signal.addEventListener("abort", leave, { once: true });
    try {
      await wt.ready;
      const [control, input] = await Promise.all([controlStream(wt), wt.createUnidirectionalStream()]);
      const reader = control.readable.getReader(), messages = new MessageReader();
      const proof = await prove(await readChallenge(reader, messages));
      const c = new Connection(wt, control.writable.getWriter(), reader, messages, proof, input.getWriter(), datagramWriter(wt));
      c.sendInput(Uint8Array.of(STREAM_INPUT));
      return c;
    } catch (e) {
      throw new Error(signal.aborted ? "another path was faster" : reason(e));
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", leave);
    }
  }

  /** Starts handing out what comes; call once. */
  run(events: ConnectionEvents): void {
    this.events = events;
    void this.readControl();
    void this.readStreams();
    void this.readDatagrams();
    this.wt.closed.then(() => this.ended("the host closed the connection"), (e: unknown) => this.ended(reason(e)));
  }

  /** Says hello, with the proof that goes with it. */
  sendHello(hello: Uint8Array): void {
    this.sendControl(hello);
    this.sendControl(this.proof);
  }

  sendControl(b: Uint8Array): void { quiet(this.control.write(b)); }
  sendInput(b: Uint8Array): void { quiet(this.input.write(b)); }

  /** Drops b when too many wait to leave: a newer one follows. */
  sendDatagram(b: Uint8Array): void {
    if (this.datagramsWaiting >= MAX_WAITING) {
      this.droppedDatagrams++;
      return;
    }
    this.datagramsWaiting++;
    const left = () => { this.datagramsWaiting--; };
    this.datagrams.write(b).then(left, left);
  }

  /** Says Bye and closes. */
  close(code: number, text: string): void {
    if (this.over) return;
    this.over = true;
    // The transport closes after the Bye has left the page; a host that hears nothing more ends the connection by itself.
    const left = this.control.write(encodeBye(code, text)).then(() => this.control.close());
    const end = () => this.wt.close({ closeCode: code, reason: text });
    left.then(end, end);
    setTimeout(end, 500);
  }

  /** Cuts the transport without a word, as a failing network would. */
  drop(): void {
    this.wt.close();
  }

  private ended(cause: string): void {
    if (this.over) return;
    this.over = true;
    this.events?.closed(cause);
  }

  private failed(e: unknown): void {
    if (!(e instanceof WireError)) return; // the transport's end is told once, by wt.closed
    if (this.over) return;
    this.events?.protocolError(e);
  }

  private async readControl(): Promise<void> {
    try {
      for (;;) {
        const { value, done } = await this.controlReader.read();
        if (done) return;
        this.lastHeard = performance.now();
        for (const m of this.messages.push(value)) if (!this.over) this.events?.message(m);
      }
    } catch (e) {
      this.failed(e);
    }
  }

  private async readStreams(): Promise<void> {
    const streams = (this.wt.incomingUnidirectionalStreams as ReadableStream<ReadableStream<Uint8Array>>).getReader();
    try {
      for (;;) {
        const { value, done } = await streams.read();
        if (done) return;
        void this.readUnit(value);
      }
    } catch (e) {
      this.failed(e);
    }
  }

  private async readUnit(stream: ReadableStream<Uint8Array>): Promise<void> {
    let b: Uint8Array;
    try {
      b = await readAll(stream);
    } catch (e) {
      if (e instanceof WireError) this.failed(e);
      else if (!this.over) this.events?.unitLost();
      return;
    }
    const received = micros();
    this.lastHeard = received / 1000;
    if (this.over) return;
    try {
      if (b[0] !== STREAM_VIDEO) throw new WireError(b[0] ?? 0, "unknown kind of stream");
      const header = parseVideoHeader(b.subarray(1, 1 + VIDEO_HEADER_LEN));
      this.events?.unit({ header, data: b.subarray(1 + VIDEO_HEADER_LEN), received });
    } catch (e) {
      this.failed(e);
    }
  }

  private async readDatagrams(): Promise<void> {
    const reader = (this.wt.datagrams.readable as ReadableStream<Uint8Array>).getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const now = micros();
        this.lastHeard = now / 1000;
        this.datagram(value, now);
      }
    } catch {
      // the transport's end is told once, by wt.closed
    }
  }

  private datagram(b: Uint8Array, now: number): void {
    try {
      const pong = parseDatagram(b);
      if (pong && !this.over) this.events?.pong(pong, now);
    } catch {
      this.badDatagrams++;
    }
  }
}

/** The stream that the host opens for control. */
async function controlStream(wt: WebTransport): Promise<WebTransportBidirectionalStream> {
  const streams = (wt.incomingBidirectionalStreams as ReadableStream<WebTransportBidirectionalStream>).getReader();
  const { value } = await streams.read();
  if (!value) throw new Error("the host opened no control stream");
  return value;
}

/** Reads the kind of the control stream and the host's first message. */
async function readChallenge(reader: ReadableStreamDefaultReader<Uint8Array>, messages: MessageReader): Promise<Uint8Array> {
  for (let begun = false; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the host closed its control stream");
    if (!begun && value[0] !== STREAM_CONTROL) throw new WireError(value[0] ?? 0, "unknown kind of stream");
    const [first] = messages.push(begun ? value : value.subarray(1));
    begun = true;
    if (first?.kind === "challenge") return first.nonce;
    if (first) throw new WireError(0, "a host begins with its challenge");
  }
}

/** Reads a stream to its end into one array. */
async function readAll(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const reader = stream.getReader();
  const parts: Uint8Array[] = [];
  let n = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    n += value.length;
    if (n > MAX_ACCESS_UNIT) {
      void reader.cancel();
      throw new WireError(STREAM_VIDEO, `access unit of more than ${MAX_ACCESS_UNIT} bytes`);
    }
    parts.push(value);
  }
  if (parts.length === 1) return parts[0]!;
  const all = new Uint8Array(n);
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}

/** Chromium has had `writable`; the specification now says `createWritable()`. */
function datagramWriter(wt: WebTransport): WritableStreamDefaultWriter<Uint8Array> {
  const d = wt.datagrams as unknown as {
    writable?: WritableStream<Uint8Array>; createWritable?(): WritableStream<Uint8Array>; outgoingHighWaterMark: number; outgoingMaxAge: number | null;
  };
  d.outgoingHighWaterMark = MAX_WAITING;
  d.outgoingMaxAge = MAX_AGE;
  return (d.writable ?? d.createWritable!()).getWriter();
}

function quiet(p: Promise<unknown>): void {
  p.catch(() => undefined); // a write that fails means that the transport ended, which wt.closed tells
}

function reason(e: unknown): string {
  return e instanceof Error && e.message ? e.message : "connection lost";
}
