// The bytes between viewer and host: the page comment of hostruntime/streamwire, in TypeScript.
// This file turns values into bytes and back; it knows nothing of transport, clocks or the DOM.
// Times are microseconds, integers are big-endian. A 64-bit time fits a double: 2^53 microseconds are 285 years.

export const VERSION = 2;

export const STREAM_CONTROL = 0x01;
export const STREAM_INPUT = 0x02;
export const STREAM_VIDEO = 0x10;

/** Length of a video stream's header without the kind byte. */
export const VIDEO_HEADER_LEN = 36;
/** Longest message on control or input: a cursor picture of 256x256 RGBA and its header. */
export const MAX_MESSAGE = 256 * 256 * 4 + 64;
/** Longest access unit. */
export const MAX_ACCESS_UNIT = 16 << 20;
/** Unit reports in one feedback datagram. */
export const MAX_REPORTS = 40;
/** Input reports in one feedback datagram. */
export const MAX_INPUT_REPORTS = 32;
const MAX_HASHES = 4;
const MAX_PEOPLE = 16;
const MAX_CURSOR = 256;

/** UTF-8 bytes of one text, which fit the host's queue of single characters. */
export const MAX_TEXT = 4096;

/** A delay that is not known yet. */
export const NOT_YET = 0xffffffff;

export const Type = {
  hello: 0x01,
  keyframe: 0x02,
  resize: 0x03,
  limits: 0x04,
  bye: 0x05,
  proof: 0x06,
  welcome: 0x81,
  state: 0x82,
  resized: 0x83,
  cursor: 0x84,
  stats: 0x85,
  move: 0x86,
  people: 0x87,
  untyped: 0x88,
  challenge: 0x89,
  key: 0x21,
  button: 0x22,
  scroll: 0x23,
  touch: 0x24,
  releaseAll: 0x25,
  text: 0x26,
  locks: 0x27,
  motionAbsolute: 0x31,
  motionRelative: 0x32,
  feedback: 0x33,
  ping: 0x34,
  pong: 0x44,
} as const;

/** Why a session ended. */
export const Code = {
  ended: 0,
  protocol: 1,
  version: 2,
  lease: 3,
  replaced: 4,
  controlled: 5,
  draining: 6,
  operator: 7,
  host: 8,
  grace: 9,
  full: 10,
  moved: 11,
  proof: 12,
} as const;

export const Codec = { h264: 1, hevc: 2, av1: 3 } as const;
export const StreamState = { starting: 0, live: 1, recovering: 2, draining: 3 } as const;
export const Role = { watch: 0, control: 1 } as const;
export const Path = { direct: 0, relay: 1 } as const;
export const TouchPhase = { down: 0, move: 1, up: 2, cancel: 3 } as const;

/** WireError says what is wrong with bytes of the other side. */
export class WireError extends Error {
  constructor(type: number, problem: string) {
    super(`message 0x${type.toString(16).padStart(2, "0")}: ${problem}`);
    this.name = "WireError";
  }
}

export interface Hello { version: number; width: number; height: number; scale: number; maxKbps: number; maxFPS: number; codecs: number[] }
export interface Bye { kind: "bye"; code: number; text: string }
export interface Welcome {
  kind: "welcome"; version: number; role: number; input: boolean; resize: boolean; codec: number;
  width: number; height: number; fps: number; session: string;
}
export interface StateChange { kind: "state"; state: number; text: string }
export interface Resized { kind: "resized"; width: number; height: number }
export interface Cursor {
  kind: "cursor"; visible: boolean; x: number; y: number; hotspotX: number; hotspotY: number;
  width: number; height: number; rgba: Uint8Array | null;
}
export interface Stats {
  kind: "stats"; rtt: number; targetKbps: number; fps: number; window: number; skipped: number; path: number;
  encoder: string; capture: string;
}
export interface Move { kind: "move"; url: string; hashes: Uint8Array[] }
export interface Challenge { kind: "challenge"; nonce: Uint8Array }
export interface Person { role: number; name: string }
/** Who else is connected. */
export interface People { kind: "people"; others: Person[] }
/** Characters that the desktop could not type, and why. */
export interface Untyped { kind: "untyped"; text: string; reason: string }
export type HostMessage = Bye | Welcome | StateChange | Resized | Cursor | Stats | Move | People | Untyped | Challenge;

export interface VideoHeader {
  track: number; codec: number; keyframe: boolean; repeat: boolean; sequence: number; width: number; height: number;
  captureTime: number; handoff: number; encode: number; send: number; lastInput: number;
}

export interface UnitReport { sequence: number; received: number; decode: number; present: number }
export interface InputReport { id: number; latency: number }
export interface Feedback {
  now: number; highest: number; lost: number; undecoded: number; units: UnitReport[]; inputs: InputReport[];
}
export interface Pong { id: number; viewerTime: number; hostTime: number }

/** Writer grows as it is written to. */
class Writer {
  private buf = new Uint8Array(64);
  private view = new DataView(this.buf.buffer);
  private n = 0;

  /** Makes room for n bytes. It may replace buf and view: call it before touching either. */
  private room(n: number): number {
    const at = this.n;
    this.n += n;
    if (this.n > this.buf.length) {
      const grown = new Uint8Array(Math.max(this.n, 2 * this.buf.length));
      grown.set(this.buf);
      this.buf = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }
  u8(v: number): this { const at = this.room(1); this.view.setUint8(at, v); return this; }
  u16(v: number): this { const at = this.room(2); this.view.setUint16(at, v); return this; }
  u24(v: number): this { return this.u8(v >>> 16).u16(v & 0xffff); }
  u32(v: number): this { const at = this.room(4); this.view.setUint32(at, v); return this; }
  u64(v: number): this { return this.u32(Math.floor(v / 2 ** 32)).u32(v % 2 ** 32); }
  bytes(b: Uint8Array): this { const at = this.room(b.length); this.buf.set(b, at); return this; }
  text(s: string): this {
    const b = new TextEncoder().encode(s).subarray(0, 0xffff);
    return this.u16(b.length).bytes(b);
  }
  done(): Uint8Array { return this.buf.slice(0, this.n); }
}

/** Reader throws WireError at the first missing byte. */
class Reader {
  private at = 0;
  private view: DataView;
  constructor(private readonly type: number, private readonly b: Uint8Array) {
    this.view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  }
  private room(n: number): number {
    const at = this.at;
    this.at += n;
    if (this.at > this.b.length) throw new WireError(this.type, `truncated at ${this.b.length} bytes`);
    return at;
  }
  u8(): number { return this.view.getUint8(this.room(1)); }
  u16(): number { return this.view.getUint16(this.room(2)); }
  u32(): number { return this.view.getUint32(this.room(4)); }
  u64(): number { return this.u32() * 2 ** 32 + this.u32(); }
  bytes(n: number): Uint8Array { const at = this.room(n); return this.b.slice(at, at + n); }
  text(): string { return new TextDecoder().decode(this.bytes(this.u16())); }
}

function message(type: number, body: Writer): Uint8Array {
  const b = body.done();
  return new Writer().u8(type).u24(b.length).bytes(b).done();
}

// Messages of the viewer.

export function encodeHello(m: Hello): Uint8Array {
  const w = new Writer().u16(m.version).u16(m.width).u16(m.height).u16(m.scale).u32(m.maxKbps).u8(m.maxFPS).u8(m.codecs.length);
  for (const c of m.codecs) w.u8(c);
  return message(Type.hello, w);
}
/** key is an uncompressed P-256 point, signature r and s. */
export function encodeProof(key: Uint8Array, signature: Uint8Array): Uint8Array {
  return message(Type.proof, new Writer().bytes(key).bytes(signature));
}
export function encodeKeyframe(track: number, lastDecoded: number): Uint8Array {
  return message(Type.keyframe, new Writer().u8(track).u32(lastDecoded));
}
/** scale is in 1/120. */
export function encodeResize(width: number, height: number, scale: number): Uint8Array {
  return message(Type.resize, new Writer().u16(width).u16(height).u16(scale));
}
export function encodeLimits(maxKbps: number, maxFPS: number): Uint8Array {
  return message(Type.limits, new Writer().u32(maxKbps).u8(maxFPS));
}
export function encodeBye(code: number, text: string): Uint8Array {
  return message(Type.bye, new Writer().u8(code).text(text));
}
export function encodeKey(id: number, code: number, down: boolean): Uint8Array {
  return message(Type.key, new Writer().u32(id).u16(code).u8(down ? 1 : 0));
}
export function encodeButton(id: number, code: number, down: boolean, at: { x: number; y: number } | null): Uint8Array {
  return message(Type.button, new Writer().u32(id).u16(code).u8(down ? 1 : 0).u8(at ? 1 : 0).u16(at?.x ?? 0).u16(at?.y ?? 0));
}
/** The distance is in 1/120 notch; positive is right and down. */
export function encodeScroll(id: number, x: number, y: number): Uint8Array {
  return message(Type.scroll, new Writer().u32(id).u32(x).u32(y));
}
export function encodeTouch(id: number, finger: number, phase: number, x: number, y: number): Uint8Array {
  return message(Type.touch, new Writer().u32(id).u8(finger).u8(phase).u16(x).u16(y));
}
export function encodeReleaseAll(id: number): Uint8Array {
  return message(Type.releaseAll, new Writer().u32(id));
}
/** The text must not have more than MAX_TEXT bytes. */
export function encodeText(id: number, text: string): Uint8Array {
  return message(Type.text, new Writer().u32(id).text(text));
}
/** known says which locks on speaks of. */
export function encodeLocks(id: number, known: number, on: number): Uint8Array {
  return message(Type.locks, new Writer().u32(id).u8(known).u8(on));
}

// Datagrams of the viewer.

export function encodeMotionAbsolute(id: number, x: number, y: number): Uint8Array {
  return new Writer().u8(Type.motionAbsolute).u32(id).u16(x).u16(y).done();
}
export function encodeMotionRelative(id: number, dx: number, dy: number): Uint8Array {
  return new Writer().u8(Type.motionRelative).u32(id).u32(dx).u32(dy).done();
}
export function encodePing(id: number, viewerTime: number): Uint8Array {
  return new Writer().u8(Type.ping).u16(id).u64(viewerTime).done();
}
export function encodeFeedback(f: Feedback): Uint8Array {
  const units = f.units.slice(0, MAX_REPORTS);
  const inputs = f.inputs.slice(0, MAX_INPUT_REPORTS);
  const w = new Writer().u8(Type.feedback).u64(f.now).u32(f.highest).u32(f.lost).u8(f.undecoded).u8(units.length);
  for (const u of units) w.u32(u.sequence).u64(u.received).u32(u.decode).u32(u.present);
  w.u8(inputs.length);
  for (const i of inputs) w.u32(i.id).u32(i.latency);
  return w.done();
}

// What the host sends.

/** Returns null for an unknown datagram, which is ignored. */
export function parseDatagram(b: Uint8Array): Pong | null {
  if (b.length === 0) throw new WireError(0, "empty datagram");
  if (b[0] !== Type.pong) return null;
  const r = new Reader(Type.pong, b.subarray(1));
  return { id: r.u16(), viewerTime: r.u64(), hostTime: r.u64() };
}

/** Reads the header after the kind byte. */
export function parseVideoHeader(b: Uint8Array): VideoHeader {
  const r = new Reader(STREAM_VIDEO, b);
  const track = r.u8(), codec = r.u8(), flags = r.u8();
  r.u8(); // reserved
  return {
    track, codec, keyframe: (flags & 1) !== 0, repeat: (flags & 2) !== 0, sequence: r.u32(), width: r.u16(), height: r.u16(),
    captureTime: r.u64(), handoff: r.u32(), encode: r.u32(), send: r.u32(), lastInput: r.u32(),
  };
}

/** Returns null for an unknown optional message. */
export function parseMessage(type: number, body: Uint8Array): HostMessage | null {
  const r = new Reader(type, body);
  switch (type) {
    case Type.bye: return { kind: "bye", code: r.u8(), text: r.text() };
    case Type.welcome: return parseWelcome(r);
    case Type.state: return { kind: "state", state: r.u8(), text: r.text() };
    case Type.resized: return { kind: "resized", width: r.u16(), height: r.u16() };
    case Type.cursor: return parseCursor(r);
    case Type.stats:
      return {
        kind: "stats", rtt: r.u32(), targetKbps: r.u32(), fps: r.u8(), window: r.u32(), skipped: r.u32(), path: r.u8(),
        encoder: r.text(), capture: r.text(),
      };
    case Type.move: return parseMove(r);
    case Type.people: return parsePeople(r);
    case Type.untyped: return { kind: "untyped", text: r.text(), reason: r.text() };
    case Type.challenge: return { kind: "challenge", nonce: r.bytes(32) };
  }
  if (type > 0x60 && type < 0x80 && (type & 1) === 1) return null;
  throw new WireError(type, "unknown type");
}

function parseWelcome(r: Reader): Welcome {
  const version = r.u16(), role = r.u8(), flags = r.u8();
  return {
    kind: "welcome", version, role, input: (flags & 1) !== 0, resize: (flags & 2) !== 0, codec: r.u8(),
    width: r.u16(), height: r.u16(), fps: r.u8(), session: r.text(),
  };
}

function parseCursor(r: Reader): Cursor {
  const flags = r.u8();
  const m: Cursor = {
    kind: "cursor", visible: (flags & 1) !== 0, x: r.u16(), y: r.u16(), hotspotX: r.u16(), hotspotY: r.u16(),
    width: 0, height: 0, rgba: null,
  };
  if ((flags & 2) === 0) return m;
  m.width = r.u16();
  m.height = r.u16();
  if (!m.width || !m.height || m.width > MAX_CURSOR || m.height > MAX_CURSOR) {
    throw new WireError(Type.cursor, `picture of ${m.width}x${m.height} is outside 1..${MAX_CURSOR}`);
  }
  m.rgba = r.bytes(m.width * m.height * 4);
  return m;
}

function parseMove(r: Reader): Move {
  const url = r.text(), n = r.u8();
  if (n > MAX_HASHES) throw new WireError(Type.move, `${n} hashes, at most ${MAX_HASHES}`);
  return { kind: "move", url, hashes: Array.from({ length: n }, () => r.bytes(32)) };
}

function parsePeople(r: Reader): People {
  const n = r.u8();
  if (n > MAX_PEOPLE) throw new WireError(Type.people, `${n} people, at most ${MAX_PEOPLE}`);
  return { kind: "people", others: Array.from({ length: n }, () => ({ role: r.u8(), name: r.text() })) };
}

/** MessageReader cuts the bytes of a control stream into messages. */
export class MessageReader {
  private rest = new Uint8Array(0);

  /** Returns the messages that are whole now. Throws WireError; the session ends then. */
  push(chunk: Uint8Array): HostMessage[] {
    let b = chunk;
    if (this.rest.length > 0) {
      b = new Uint8Array(this.rest.length + chunk.length);
      b.set(this.rest);
      b.set(chunk, this.rest.length);
    }
    const out: HostMessage[] = [];
    for (;;) {
      if (b.length < 4) break;
      const length = (b[1]! << 16) | (b[2]! << 8) | b[3]!;
      if (length > MAX_MESSAGE) throw new WireError(b[0]!, `${length} bytes, at most ${MAX_MESSAGE}`);
      if (b.length < 4 + length) break;
      const m = parseMessage(b[0]!, b.subarray(4, 4 + length));
      if (m) out.push(m);
      b = b.subarray(4 + length);
    }
    this.rest = b.slice();
    return out;
  }
}

/** a is after b on the wrapping 32-bit circle. */
export function after(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}
