// The pure parts: order, clock, reports, keys, places, racing, backoff, texts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { Candidate } from "../src/api.js";
import { Clock } from "../src/clock.js";
import { Unreachable, ordered, race } from "../src/connect.js";
import { codecString } from "../src/decode.js";
import { relative } from "../src/dom.js";
import { InputLatency, Reports } from "../src/feedback.js";
import { certificateStatement, tokenOf, unixSeconds, verifiedHashes, withToken } from "../src/grant.js";
import { place } from "../src/input.js";
import { EVDEV } from "../src/keys.js";
import { browser } from "../src/pages/account.js";
import { Pace } from "../src/pace.js";
import { statement, thumbprint } from "../src/proof.js";
import { MAX_HELD, Pli, Reorder, type Unit } from "../src/reorder.js";
import { Rate, Samples } from "../src/samples.js";
import { Signal, backoff, type Socket } from "../src/signal.js";
import { ending, offerEnding, refusalEnding, refusalTitle, sentence } from "../src/texts.js";
import { Code, NOT_YET } from "../src/wire.js";

function unit(sequence: number, keyframe = false): Unit {
  const header = { track: 0, codec: 1, keyframe, repeat: false, sequence, width: 2, height: 2, captureTime: 0, handoff: 0, encode: 0, send: 0, lastInput: 0 };
  return { header, data: new Uint8Array(1), received: 0 };
}
const seqs = (u: Unit[]) => u.map((x) => x.header.sequence);

test("units come out in order, whatever order they came in", () => {
  const r = new Reorder();
  assert.deepEqual(seqs(r.push(unit(6), 1)), []); // before the first keyframe
  assert.deepEqual(seqs(r.push(unit(5, true), 2)), [5, 6]);
  assert.deepEqual(seqs(r.push(unit(8), 3)), []);
  assert.deepEqual(seqs(r.push(unit(9), 4)), []);
  assert.deepEqual(seqs(r.push(unit(7), 5)), [7, 8, 9]);
  assert.equal(r.lost, 0);
  assert.ok(!r.wantsKeyframe(1000, 60));
});

test("sequences wrap", () => {
  const r = new Reorder();
  assert.deepEqual(seqs(r.push(unit(0xfffffffe, true), 1)), [0xfffffffe]);
  assert.deepEqual(seqs(r.push(unit(0), 2)), []);
  assert.deepEqual(seqs(r.push(unit(0xffffffff), 3)), [0xffffffff, 0]);
  assert.equal(r.highest, 0);
});

test("a missing unit is waited for, then a keyframe is wanted, and the keyframe goes on", () => {
  const r = new Reorder();
  r.push(unit(1, true), 0);
  r.push(unit(3), 100);
  assert.ok(!r.wantsKeyframe(150, 60));
  assert.ok(r.wantsKeyframe(160, 60));
  assert.deepEqual(seqs(r.push(unit(4), 170)), []);
  assert.deepEqual(seqs(r.push(unit(6, true), 200)), [6]);
  assert.equal(r.lost, 4); // 2 never came; 3, 4 and 5 were not waited for
  assert.ok(!r.wantsKeyframe(1000, 60));
  assert.deepEqual(seqs(r.push(unit(2), 210)), []);
  assert.equal(r.late, 1);
});

test("a missing unit that comes late still counts", () => {
  const r = new Reorder();
  r.push(unit(1, true), 0);
  r.push(unit(3), 100);
  assert.ok(r.wantsKeyframe(200, 60));
  assert.deepEqual(seqs(r.push(unit(2), 210)), [2, 3]);
  assert.ok(!r.wantsKeyframe(1000, 60));
  assert.equal(r.lost, 0);
});

test("after a broken decoder only a keyframe is decoded", () => {
  const r = new Reorder();
  r.push(unit(1, true), 0);
  r.needKeyframe(5);
  assert.ok(r.wantsKeyframe(5, 60));
  assert.deepEqual(seqs(r.push(unit(2), 10)), []);
  assert.deepEqual(seqs(r.push(unit(3, true), 20)), [3]);
  assert.deepEqual(seqs(r.push(unit(4), 30)), [4]);
});

test("what is held is bounded", () => {
  const r = new Reorder();
  r.push(unit(1, true), 0);
  for (let i = 0; i < 3 * MAX_HELD; i++) r.push(unit(3 + i), i);
  assert.deepEqual(seqs(r.push(unit(2), 999)).length, 0); // too much was thrown away: only a keyframe helps
  const key = 3 + 3 * MAX_HELD;
  assert.deepEqual(seqs(r.push(unit(key, true), 1000)), [key]);
});

test("keyframes are asked for at most ten times a second and once per round trip and a half", () => {
  const p = new Pli();
  assert.ok(p.ask(0, 10));
  assert.ok(!p.ask(99, 10));
  assert.ok(p.ask(100, 10));
  assert.ok(!p.ask(390, 200));
  assert.ok(p.ask(400, 200));
});

test("the clock believes the pong with the smallest round trip", () => {
  const c = new Clock();
  assert.equal(c.since(5, 5), null);
  c.pong(1000, 51_500, 2000); // round trip 1000: offset 50000
  c.pong(3000, 59_000, 13_000); // queued on one way
  assert.equal(c.offset, 50_000);
  assert.equal(c.since(50_500, 1500), 1000);
  assert.equal(c.since(99_000, 1500), 0); // never negative
  c.pong(9000, 1, 8000); // from the future: not an answer to us
  assert.equal(c.minRTT, 1000);
});

test("a unit is reported when it came, and again when more is known, and then forgotten", () => {
  const r = new Reports();
  r.received(7, 1000);
  assert.deepEqual(r.take(1500, 7, 0, 0).units, [{ sequence: 7, received: 1000, decode: NOT_YET, present: NOT_YET }]);
  assert.deepEqual(r.take(1600, 7, 0, 0).units, []);
  r.decoded(7, 4000);
  r.presented(7, 9000);
  assert.deepEqual(r.take(9500, 7, 0, 0).units, [{ sequence: 7, received: 1000, decode: 3000, present: 8000 }]);
  r.presented(7, 9999);
  assert.deepEqual(r.take(9999, 7, 0, 0).units, []);
});

test("reports that do not fit come with the next datagram", () => {
  const r = new Reports();
  for (let i = 0; i < 50; i++) r.received(i, i);
  assert.equal(r.take(100, 49, 0, 300).units.length, 40);
  const next = r.take(101, 49, 0, 300);
  assert.equal(next.units.length, 10);
  assert.equal(next.undecoded, 255);
});

test("input-to-present ends at the first picture that shows it, around the wrap of ids too", () => {
  const l = new InputLatency();
  l.sent(0xfffffffe, 1000);
  l.sent(0xffffffff, 2000);
  l.sent(1, 3000);
  assert.deepEqual(l.presented(0, 5000), []); // none applied yet
  assert.deepEqual(l.presented(0xfffffffe, 9000), [{ id: 0xfffffffe, latency: 8000 }]);
  assert.deepEqual(l.presented(1, 10_000), [{ id: 0xffffffff, latency: 8000 }, { id: 1, latency: 7000 }]);
  assert.deepEqual(l.presented(1, 11_000), []);
});

test("keys: places of the keyboard have their evdev codes, each once", () => {
  assert.equal(EVDEV["KeyA"], 30);
  assert.equal(EVDEV["Space"], 57);
  assert.equal(EVDEV["ArrowUp"], 103);
  assert.equal(EVDEV["MetaLeft"], 125);
  const older = new Set(["OSLeft", "OSRight", "VolumeMute", "VolumeDown", "VolumeUp"]);
  const codes = Object.entries(EVDEV).filter(([k]) => !older.has(k)).map(([, v]) => v);
  assert.equal(new Set(codes).size, codes.length);
});

test("places are clamped to the picture", () => {
  const r = { left: 100, top: 50, width: 200, height: 100 };
  assert.deepEqual(place(100, 50, r), { x: 0, y: 0 });
  assert.deepEqual(place(300, 150, r), { x: 65535, y: 65535 });
  assert.deepEqual(place(200, 100, r), { x: 32768, y: 32768 });
  assert.deepEqual(place(-5, 999, r), { x: 0, y: 65535 });
  assert.deepEqual(place(5, 5, { left: 0, top: 0, width: 0, height: 0 }), { x: 0, y: 0 });
});

const candidate = (kind: string, priority: number, relay = ""): Candidate => ({ kind, priority, url: kind + relay, relay });
const wait = (ms: number) => new Promise<void>((r) => setTimeout(r, ms));

test("candidates: best first, direct before relay among equals", () => {
  const c = ordered([candidate("relay", 10), candidate("direct", 10), candidate("relay", 20)]);
  assert.deepEqual(c.map((x) => `${x.kind} ${x.priority}`), ["relay 20", "direct 10", "relay 10"]);
});

test("racing: the better one wins within its head start although the other is faster", async () => {
  const opened: string[] = [];
  const won = await race([candidate("relay", 1), candidate("direct", 2)], async (c) => {
    opened.push(c.kind);
    await wait(c.kind === "direct" ? 30 : 1);
    return c.kind;
  }, () => undefined, new AbortController().signal, 500);
  assert.equal(won.value, "direct");
  assert.deepEqual(opened, ["direct"]);
});

test("racing: a slow better one is overtaken, and closed when it comes after all", async () => {
  const closed: string[] = [];
  const won = await race([candidate("direct", 2), candidate("relay", 1)], async (c) => {
    await wait(c.kind === "direct" ? 60 : 1);
    return c.kind;
  }, (v) => closed.push(v), new AbortController().signal, 10);
  assert.equal(won.value, "relay");
  await wait(80);
  assert.deepEqual(closed, ["direct"]);
});

test("racing: a failure starts the next at once; all failures are told", async () => {
  const started = Date.now();
  const won = await race([candidate("direct", 2), candidate("relay", 1)], async (c) => {
    if (c.kind === "direct") throw new Error("refused");
    return c.kind;
  }, () => undefined, new AbortController().signal, 60_000);
  assert.equal(won.value, "relay");
  assert.ok(Date.now() - started < 1000);
  await assert.rejects(race([candidate("direct", 2), candidate("relay", 1, "r7")], async () => { throw new Error("no"); }, () => undefined, new AbortController().signal, 1),
    (e: unknown) => e instanceof Unreachable && e.causes.length === 2 && e.message.includes("relay r7: no"));
  await assert.rejects(race([], async () => 1, () => undefined, new AbortController().signal), Unreachable);
});

test("racing: leaving ends it", async () => {
  const abort = new AbortController();
  const r = race([candidate("direct", 1)], () => new Promise<number>(() => undefined), () => undefined, abort.signal);
  abort.abort();
  await assert.rejects(r, { name: "AbortError" });
});

test("the viewer's token is the last segment of the URL", () => {
  assert.equal(tokenOf("https://192.0.2.1:4433/session/v4.public.x"), "v4.public.x");
  assert.equal(withToken("https://192.0.2.1:4433/session/old", "v4.public.new"), "https://192.0.2.1:4433/session/v4.public.new");
});

test("what is signed over a host's challenge is what the host checks", async () => {
  const v = JSON.parse(readFileSync(`${__WEB__}/../hostruntime/proof/testdata/vector.json`, "utf8")) as Record<string, string>;
  const bytes = (name: string) => new Uint8Array(Buffer.from(v[name]!, "hex"));
  const signed = await statement(bytes("Nonce"), bytes("Identity"), v["Token"]!);
  assert.equal(Buffer.from(signed).toString("hex"), v["Statement"]);
  assert.equal(await thumbprint(bytes("Key")), v["Thumbprint"]);
  const key = await crypto.subtle.importKey("raw", bytes("Key"), { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
  assert.ok(await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, bytes("Signature"), signed));
});

async function signedGrant() {
  const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"])) as CryptoKeyPair;
  const hash = new Uint8Array(32).fill(7);
  const expiry = "2030-01-02T03:04:05Z";
  const signature = await crypto.subtle.sign({ name: "Ed25519" }, pair.privateKey, certificateStatement("ses", unixSeconds(expiry), [hash]));
  const b64 = (b: ArrayBuffer | Uint8Array) => Buffer.from(b as ArrayBuffer).toString("base64");
  return {
    session: "ses", viewer: "v", role: "control", candidates: [], lease_expiry: expiry, grace_seconds: 1,
    host: { id: "h", identity: b64(await crypto.subtle.exportKey("raw", pair.publicKey)) },
    certificate: { hashes: [b64(hash)], expiry, signature: b64(signature) },
  };
}

test("a grant is believed only with the host's signature over session, expiry and hashes", async () => {
  const g = await signedGrant(), now = Date.parse("2029-01-01T00:00:00Z");
  assert.equal((await verifiedHashes(g, now))[0]!.length, 32);
  const bad = (change: object) => assert.rejects(verifiedHashes({ ...g, ...change } as typeof g, now), /could not prove/);
  await bad({ session: "other" });
  await bad({ certificate: { ...g.certificate, expiry: "2031-01-02T03:04:05Z" } });
  await bad({ certificate: { ...g.certificate, hashes: [Buffer.alloc(32, 8).toString("base64")] } });
  await bad({ certificate: { ...g.certificate, hashes: [] } });
  await bad({ host: { id: "h", identity: Buffer.alloc(31).toString("base64") } });
  await assert.rejects(verifiedHashes(g, Date.parse("2030-01-02T03:04:06Z")), /expired/);
});

test("the statement is what signalapi.CertificateStatement builds", () => {
  const b = certificateStatement("ab", 2 ** 32 + 5, [new Uint8Array(32).fill(1)]);
  assert.equal(Buffer.from(b).toString("hex"), Buffer.from("wavry certificate v1\0").toString("hex") + "0002" + "6162" + "0000000100000005" + "01" + "01".repeat(32));
});

/** A socket in the test's hands. */
class FakeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  sent: { type: string; id: string; data: unknown }[] = [];
  send(text: string): void { this.sent.push(JSON.parse(text) as FakeSocket["sent"][0]); }
  close(): void { this.onclose?.({}); }
  say(m: unknown): void { this.onmessage?.({ data: typeof m === "string" ? m : JSON.stringify(m) }); }
}

function signalOver(sockets: FakeSocket[], events: unknown[] = []): Signal {
  return new Signal({
    open: () => { const s = new FakeSocket(); sockets.push(s); return s; },
    onEvent: (e) => events.push(e), onState: () => undefined, onTrouble: () => undefined, random: () => 0.5,
  });
}

test("signaling: a request without an answer is sent again under the same id, after resume", async () => {
  const sockets: FakeSocket[] = [], s = signalOver(sockets);
  s.start();
  const answer = s.request<string>("connect", { pool: "p" });
  s.keep("ses", "v1");
  assert.equal(sockets[0]!.sent.length, 0);
  sockets[0]!.onopen!({});
  assert.deepEqual(sockets[0]!.sent.map((m) => m.type), ["resume", "connect"]);
  sockets[0]!.close();
  await wait(BACKOFF_MAX_FIRST);
  sockets[1]!.onopen!({});
  const [first, second] = [sockets[0]!.sent.at(-1)!, sockets[1]!.sent.at(-1)!];
  assert.equal(second.type, "connect");
  assert.equal(second.id, first.id);
  sockets[1]!.say({ type: "reply", id: second.id, data: "granted" });
  assert.equal(await answer, "granted");
  s.stop();
});
const BACKOFF_MAX_FIRST = 400;

test("signaling: refusals, events, and nonsense", async () => {
  const sockets: FakeSocket[] = [], events: unknown[] = [], s = signalOver(sockets, events);
  s.start();
  sockets[0]!.onopen!({});
  const refused = s.request("connect", {});
  sockets[0]!.say("not json");
  sockets[0]!.say({ type: "reply", id: "nobody asked" });
  sockets[0]!.say({ type: "event", data: { kind: "warning", session: "x" } });
  sockets[0]!.say({ type: "refused", id: sockets[0]!.sent[0]!.id, data: { reason: "no_host", message: "all taken", retry_seconds: 3 } });
  await assert.rejects(refused, { reason: "no_host", message: "all taken", retrySeconds: 3 });
  assert.deepEqual(events, [{ kind: "warning", session: "x" }]);
  const left = s.request("end", {});
  s.stop();
  await assert.rejects(left, { reason: "stopped" });
});

test("backoff doubles, has an end, and spreads", () => {
  assert.equal(backoff(0, 0.5), 250);
  assert.equal(backoff(3, 0.5), 2000);
  assert.equal(backoff(50, 0.5), 8000);
  assert.ok(backoff(50, 0) < backoff(50, 1));
});

test("percentiles and rates", () => {
  const s = new Samples(100);
  assert.equal(s.percentile(0.5), null);
  for (let i = 1; i <= 200; i++) s.add(i);
  assert.equal(s.count, 100);
  assert.equal(s.percentile(0.5), 150);
  assert.equal(s.percentile(0.99), 199);
  assert.equal(s.percentile(1), 200);
  assert.deepEqual(s.all().slice(0, 2), [101, 102]);
  const r = new Rate();
  for (let t = 0; t < 2000; t += 100) r.add(t, 5);
  assert.deepEqual(r.per(1900), { count: 11, sum: 55 });
});

test("codec strings come from the parameter set", () => {
  const sps = Uint8Array.of(0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 1, 2, 3);
  assert.equal(codecString(1, sps), "avc1.42C01F");
  assert.equal(codecString(1, Uint8Array.of(1, 2, 3)), "avc1.42E01F");
  assert.equal(codecString(3, sps), "av01.0.12M.08");
});

test("words", () => {
  assert.equal(sentence("the host is gone"), "The host is gone.");
  assert.equal(sentence("Why?"), "Why?");
  assert.equal(ending(Code.operator, "maintenance tonight").text, "Maintenance tonight. Ask them why, or connect again.");
  assert.equal(ending(Code.replaced, "").action, "takeBack");
  assert.equal(ending(200, "").action, "again");
  assert.equal(offerEnding("host_drained", "the time is over").title, ending(Code.draining, "").title);
  assert.equal(offerEnding("host_lost", "").title, "The host was lost");
  assert.equal(refusalEnding("no_free_host", "every desktop is in use").title, "No desktop is free right now");
  assert.equal(refusalTitle("host_unavailable"), "The host is not available");
  assert.equal(refusalTitle("somebody else is using this desktop"), "Somebody else is using this desktop.");
  assert.equal(relative(-3000), "now");
  assert.equal(relative(-120_000), "2 min ago");
  assert.equal(relative(7_200_000), "in 2 h");
  assert.equal(browser("Mozilla/5.0 (X11; Linux x86_64) Chrome/140 Safari/537.36"), "Chrome on Linux");
  assert.equal(browser("curl/8"), "A browser");
});

test("a viewer that falls behind asks for fewer pictures, and for more again when it is calm", () => {
  const p = new Pace();
  p.update(-2_000, 0, 0); // the first picture was long ago
  assert.equal(p.update(0, 5, 60), null); // jitter
  assert.equal(p.update(100, 8, 60), null); // not for long enough
  assert.equal(p.update(260, 8, 60), 42);
  assert.equal(p.update(500, 20, 60), null); // the host's answer must be seen first
  assert.equal(p.update(1300, 20, 42), 29);
  assert.equal(p.update(1400, 0, 29), null);
  assert.equal(p.update(7400, 0, 29), 38);
  assert.equal(p.update(13_500, 0, 38), 50);
  assert.equal(p.update(19_600, 0, 50), 0); // as before
  assert.equal(p.update(40_000, 0, 60), null);
});

test("a viewer's first two seconds do not count as falling behind", () => {
  const p = new Pace();
  for (let t = 0; t < 2_000; t += 50) assert.equal(p.update(t, 12, 5), null);
  assert.equal(p.update(2_050, 12, 40), null);
  assert.equal(p.update(2_200, 12, 40), 28);
});

test("a viewer never asks for less than ten pictures a second", () => {
  const p = new Pace();
  for (let t = 0; t < 60_000; t += 100) p.update(t, 30, 12);
  assert.equal(p.limit, 10);
});
