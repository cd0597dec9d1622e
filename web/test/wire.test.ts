// The TypeScript side of the wire against the vectors that the Go side wrote.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as wire from "../src/wire.js";

interface Vector { name: string; kind: string; type: number; bytes: string; value: Record<string, unknown> }

const vectors = JSON.parse(readFileSync(`${__WEB__}/../hostruntime/streamwire/testdata/vectors.json`, "utf8")) as Vector[];
const unhex = (s: string) => Uint8Array.from(s.match(/../g) ?? [], (b) => parseInt(b, 16));
const hex = (b: Uint8Array) => Buffer.from(b).toString("hex");

/** Go's field names and ours differ in case only; Go writes bytes as base64 and empty lists as null. */
function normal(v: unknown): unknown {
  if (v instanceof Uint8Array) return Buffer.from(v).toString("base64");
  if (Array.isArray(v)) return v.length === 0 ? null : v.map(normal);
  if (v === null || typeof v !== "object") return v;
  return Object.fromEntries(Object.entries(v).filter(([k]) => k !== "kind").map(([k, x]) => [k.toLowerCase(), normal(x)]));
}

// Types buys nothing here: the vectors are ours, and a wrong field fails the comparison of bytes.
type Fields = any;
const fields = (v: Vector) => normal(v.value) as Fields;
const place = (f: Fields) => (f["placed"] ? { x: f["x"], y: f["y"] } : null);

/** How each message of the viewer is built from a vector's fields. */
const encoders: Record<number, (f: Fields) => Uint8Array> = {
  [wire.Type.hello]: (f) => wire.encodeHello({
    version: f["version"], width: f["width"], height: f["height"], scale: f["scale"], maxKbps: f["maxkbps"], maxFPS: f["maxfps"], codecs: [...Buffer.from(f["codecs"] ?? "", "base64")],
  }),
  [wire.Type.proof]: (f) => wire.encodeProof(Buffer.from(f["key"], "base64"), Buffer.from(f["signature"], "base64")),
  [wire.Type.keyframe]: (f) => wire.encodeKeyframe(f["track"], f["lastdecoded"]),
  [wire.Type.resize]: (f) => wire.encodeResize(f["width"], f["height"], f["scale"]),
  [wire.Type.limits]: (f) => wire.encodeLimits(f["maxkbps"], f["maxfps"]),
  [wire.Type.bye]: (f) => wire.encodeBye(f["code"], f["text"]),
  [wire.Type.key]: (f) => wire.encodeKey(f["id"], f["code"], f["down"]),
  [wire.Type.button]: (f) => wire.encodeButton(f["id"], f["code"], f["down"], place(f)),
  [wire.Type.scroll]: (f) => wire.encodeScroll(f["id"], f["x"], f["y"]),
  [wire.Type.touch]: (f) => wire.encodeTouch(f["id"], f["finger"], f["phase"], f["x"], f["y"]),
  [wire.Type.releaseAll]: (f) => wire.encodeReleaseAll(f["id"]),
  [wire.Type.text]: (f) => wire.encodeText(f["id"], f["text"]),
  [wire.Type.locks]: (f) => wire.encodeLocks(f["id"], f["known"], f["on"]),
  [wire.Type.motionAbsolute]: (f) => wire.encodeMotionAbsolute(f["id"], f["x"], f["y"]),
  [wire.Type.motionRelative]: (f) => wire.encodeMotionRelative(f["id"], f["dx"], f["dy"]),
  [wire.Type.ping]: (f) => wire.encodePing(f["id"], f["viewertime"]),
  [wire.Type.feedback]: (f) => wire.encodeFeedback({
    now: f["now"], highest: f["highest"], lost: f["lost"], undecoded: f["undecoded"], units: f["units"] ?? [], inputs: f["inputs"] ?? [],
  }),
};

/** How each thing of the host is read. */
function parse(v: Vector, b: Uint8Array): unknown {
  if (v.kind === "video") return wire.parseVideoHeader(b.subarray(1));
  if (v.kind === "datagram") return wire.parseDatagram(b);
  return wire.parseMessage(b[0]!, b.subarray(4));
}

const fromHost = new Set<number>([...[wire.Type.bye, wire.Type.welcome, wire.Type.state, wire.Type.resized, wire.Type.cursor, wire.Type.stats, wire.Type.move, wire.Type.people, wire.Type.untyped, wire.Type.challenge], wire.STREAM_VIDEO, wire.Type.pong]);

test("every vector is known to one side at least", () => {
  assert.ok(vectors.length > 30);
  for (const v of vectors) assert.ok(encoders[v.type] || fromHost.has(v.type), v.name);
});

for (const v of vectors) {
  const b = unhex(v.bytes);
  if (encoders[v.type]) {
    test(`encodes ${v.name}`, () => assert.equal(hex(encoders[v.type]!(fields(v))), v.bytes));
  }
  if (!fromHost.has(v.type)) continue;
  test(`parses ${v.name}`, () => assert.deepEqual(normal(parse(v, b)), normal(v.value)));
  test(`refuses ${v.name} cut anywhere`, () => {
    for (let n = v.kind === "message" ? 4 : 1; n < b.length; n++) {
      assert.throws(() => parse(v, b.subarray(0, n)), wire.WireError, `cut to ${n}`);
    }
  });
}

test("a control stream is cut into messages wherever its chunks end", () => {
  const wanted = vectors.filter((v) => v.kind === "message" && fromHost.has(v.type));
  const all = Buffer.concat(wanted.map((v) => unhex(v.bytes)));
  for (const size of [1, 3, 7, 64, all.length]) {
    const reader = new wire.MessageReader();
    const out: unknown[] = [];
    for (let i = 0; i < all.length; i += size) out.push(...reader.push(new Uint8Array(all.subarray(i, i + size))));
    assert.deepEqual(out.map(normal), wanted.map((v) => normal(v.value)), `chunks of ${size}`);
  }
});

test("unknown optional messages are skipped, others end the session", () => {
  for (let type = 0; type < 256; type++) {
    if (fromHost.has(type) && type !== wire.STREAM_VIDEO && type !== wire.Type.pong) continue;
    const reader = new wire.MessageReader();
    const bytes = Uint8Array.of(type, 0, 0, 1, 9);
    if (type > 0x60 && type < 0x80 && type % 2 === 1) assert.deepEqual(reader.push(bytes), []);
    else assert.throws(() => reader.push(bytes), wire.WireError, `0x${type.toString(16)}`);
  }
});

test("limits: a message, hashes and a cursor beyond them are refused before they are read", () => {
  const n = wire.MAX_MESSAGE + 1;
  assert.throws(() => new wire.MessageReader().push(Uint8Array.of(wire.Type.bye, n >> 16, (n >> 8) & 255, n & 255)), wire.WireError);
  assert.throws(() => wire.parseMessage(wire.Type.move, Uint8Array.of(0, 0, 5, ...new Array<number>(160).fill(0))), wire.WireError);
  const cursor = (w: number, h: number) => Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0, w >> 8, w & 255, h >> 8, h & 255);
  for (const [w, h] of [[257, 1], [1, 257], [0, 1], [1, 0]] as const) {
    assert.throws(() => wire.parseMessage(wire.Type.cursor, cursor(w, h)), /outside/);
  }
});

test("ids wrap: after is right around the circle", () => {
  assert.ok(wire.after(1, 0));
  assert.ok(!wire.after(0, 0));
  assert.ok(wire.after(2, 0xfffffff0));
  assert.ok(!wire.after(0xfffffff0, 2));
});

test("a thousand random messages never throw anything but WireError", () => {
  let seed = 42;
  const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) / 2 ** 32;
  for (let i = 0; i < 1000; i++) {
    const b = Uint8Array.from({ length: Math.floor(random() * 80) }, () => random() * 256);
    for (const f of [() => new wire.MessageReader().push(b), () => wire.parseVideoHeader(b), () => wire.parseDatagram(b)]) {
      try {
        f();
      } catch (e) {
        assert.ok(e instanceof wire.WireError, String(e));
      }
    }
  }
});
