// What the events of keyboards, wheels and text fields become, on the systems and browsers that tell them differently.
import assert from "node:assert/strict";
import { test } from "node:test";
import { area } from "../src/area.js";
import { Composer, EMPTY, type Typed } from "../src/compose.js";
import { parts } from "../src/input.js";
import { Keyboard, Lock, habits, type Act, type Habits } from "../src/keyboard.js";
import { untypedText } from "../src/texts.js";
import { Wheel } from "../src/wheel.js";

const WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36";
const MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36";
const LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36";

const state = (on = "") => ({ getModifierState: (n: string) => on.split(" ").includes(n) });

/** Events as a browser tells them: "+ControlLeft" down, "-KeyQ" up, "*KeyW" repeated; key and modifiers as told with it. */
function stroke(k: Keyboard, what: string, at: number, key = "", on = ""): string[] {
  const kind = what[0]!, code = what.slice(1);
  return words(k.stroke({
    type: kind === "-" ? "keyup" : "keydown", repeat: kind === "*", code, timeStamp: at, key: key || code.replace(/^Key/, "").replace(/(Left|Right)$/, ""), ...state(on),
  }));
}
function words(acts: Act[]): string[] {
  return acts.map((a) => ("code" in a ? `${a.down ? "+" : "-"}${a.code}` : `locks ${a.locks}`)).filter((w) => w !== "locks 0");
}
const board = (agent: string | Habits) => new Keyboard(typeof agent === "string" ? habits(agent) : agent);

test("AltGr on Windows: its Control is dropped, down, repeated and up", () => {
  for (const apart of [0, 1, 16]) { // the same time, or a step of Windows' clock between
    const k = board(WINDOWS), got: string[] = [];
    const say = (...a: [string, number, string?, string?]) => got.push(...stroke(k, ...a));
    say("+ControlLeft", 1000, "Control", "Control");
    say("+AltRight", 1000 + apart, "AltGraph", "AltGraph");
    say("*ControlLeft", 1500, "Control", "Control");
    say("*AltRight", 1500 + apart, "AltGraph", "AltGraph");
    say("+KeyQ", 1600, "@", "AltGraph");
    say("-KeyQ", 1700, "@", "AltGraph");
    say("-ControlLeft", 1800, "Control", "AltGraph");
    say("-AltRight", 1800 + apart, "AltGraph", "");
    assert.deepEqual(got, ["+100", "+16", "-16", "-100"], `${apart} ms apart`);
    assert.equal(k.held, false);
  }
});

test("AltGr on Windows, lifted in the other order, and Control after it is Control again", () => {
  const k = board(WINDOWS);
  stroke(k, "+ControlLeft", 10, "Control", "Control");
  assert.deepEqual(stroke(k, "+AltRight", 10, "AltGraph", "AltGraph"), ["+100"]);
  assert.deepEqual(stroke(k, "-AltRight", 50, "AltGraph", "Control"), ["-100"]);
  assert.deepEqual(stroke(k, "-ControlLeft", 50, "Control"), []);
  assert.deepEqual(stroke(k, "+ControlLeft", 900, "Control", "Control"), []);
  assert.deepEqual(stroke(k, "+KeyC", 950, "c", "Control"), ["+29", "+46"]);
});

test("a Control that was pressed is not dropped: alone, before a click, with another key, with Alt of a layout without AltGr, or before AltGr", () => {
  let k = board(WINDOWS);
  assert.deepEqual(stroke(k, "+ControlLeft", 100, "Control", "Control"), []);
  assert.equal(k.wake, 140);
  assert.deepEqual(words(k.due(139)), []);
  assert.deepEqual(words(k.due(140)), ["+29"]);
  assert.deepEqual(stroke(k, "-ControlLeft", 300), ["-29"]);
  k = board(WINDOWS);
  stroke(k, "+ControlLeft", 100, "Control", "Control");
  assert.deepEqual(words(k.look(state("Control"), true)), []); // motion between the two events decides nothing
  assert.deepEqual(words(k.settled()), ["+29"]); // a click
  k = board(WINDOWS);
  stroke(k, "+ControlLeft", 100, "Control", "Control");
  assert.deepEqual(stroke(k, "-ControlLeft", 104, "Control"), ["+29", "-29"]);
  k = board(WINDOWS);
  stroke(k, "+ControlLeft", 100, "Control", "Control");
  assert.deepEqual(stroke(k, "+AltRight", 100, "Alt", "Control Alt"), ["+29", "+100"]);
  k = board(WINDOWS);
  stroke(k, "+ControlLeft", 100, "Control", "Control");
  assert.deepEqual(stroke(k, "+AltRight", 130, "AltGraph", "AltGraph"), ["+29", "+100"]);
  k = board(LINUX); // nothing is held back where no Control is made
  assert.deepEqual(stroke(k, "+ControlLeft", 100, "Control", "Control"), ["+29"]);
});

test("macOS tells Caps Lock's states: down when it locks, up when it unlocks", () => {
  const k = board(MAC);
  assert.deepEqual(stroke(k, "+CapsLock", 1, "CapsLock", "CapsLock"), ["locks 1"]);
  assert.deepEqual(stroke(k, "+KeyA", 2, "A", "CapsLock"), ["+30"]);
  stroke(k, "-KeyA", 3, "A", "CapsLock");
  assert.deepEqual(k.stroke({ type: "keyup", code: "CapsLock", key: "CapsLock", repeat: false, timeStamp: 4, ...state() }), [{ locks: 0, known: Lock.caps }]);
  assert.deepEqual(stroke(k, "+KeyA", 5, "a"), ["+30"]);
});

test("Linux tells of an unlock only when the key comes up; the lock follows all the same", () => {
  const k = board(LINUX), seen: Act[] = [];
  const say = (type: string, on: string) => seen.push(...k.stroke({ type, code: "CapsLock", key: "CapsLock", repeat: false, timeStamp: 1, ...state(on) }));
  say("keydown", "CapsLock");
  say("keyup", "CapsLock");
  say("keydown", "CapsLock");
  say("keyup", "");
  assert.deepEqual(seen, [{ locks: 1, known: 3 }, { locks: 0, known: 3 }]);
});

test("every event tells of the locks it can know, and only of these; a focus that comes back tells them again", () => {
  assert.deepEqual([WINDOWS, LINUX, MAC, ANDROID].map((a) => habits(a).locks), [7, 3, 1, 1]);
  const k = board(WINDOWS);
  assert.deepEqual(k.look(state("NumLock ScrollLock"), true), [{ locks: 6, known: 7 }]);
  assert.deepEqual(k.look(state("NumLock ScrollLock"), true), []);
  assert.deepEqual(k.look(state(""), false), []); // a finger knows nothing of locks
  assert.deepEqual(stroke(k, "+NumLock", 1, "NumLock", "ScrollLock"), ["locks 4"]);
  assert.deepEqual(stroke(k, "+ScrollLock", 1, "ScrollLock", ""), []);
  k.forget();
  assert.deepEqual(k.look(state("CapsLock"), true), [{ locks: 1, known: 7 }]);
  assert.deepEqual(board(MAC).look(state(""), true), [{ locks: 0, known: 1 }]); // Num Lock stays on at the desktop
  assert.deepEqual(stroke(board(LINUX), "+CapsLock", 1, "Control", "Control"), ["+29"]); // as the person made it
});

test("a scroll lock whose state the browser does not know is a key", () => {
  assert.deepEqual(stroke(board(LINUX), "+ScrollLock", 1), ["+70"]);
});

test("every modifier whose lifting was lost is lifted by the next event that denies it", () => {
  for (const [code, name, evdev] of [
    ["ShiftLeft", "Shift", 42], ["ShiftRight", "Shift", 54], ["ControlLeft", "Control", 29], ["ControlRight", "Control", 97],
    ["AltLeft", "Alt", 56], ["AltRight", "AltGraph", 100], ["AltRight", "Alt", 100], ["MetaLeft", "Meta", 125], ["MetaRight", "Meta", 126],
  ] as const) {
    const k = board(LINUX);
    stroke(k, `+${code}`, 1, name, name);
    assert.deepEqual(words(k.look(state(name), true)), []);
    assert.deepEqual(words(k.look(state(""), true)), [`-${evdev}`], `${code}: a move of the pointer`);
    stroke(k, `+${code}`, 2, name, name);
    assert.deepEqual(stroke(k, "+KeyA", 3), [`-${evdev}`, "+30"], `${code}: a key`);
  }
});

test("what is no modifier here is not lifted, nor is what AltGr hides", () => {
  const compose = board(LINUX);
  stroke(compose, "+AltRight", 1, "Compose");
  assert.deepEqual(stroke(compose, "+KeyA", 2), ["+30"]);
  const k = board(WINDOWS);
  stroke(k, "+ControlRight", 1, "Control", "Control");
  stroke(k, "+AltRight", 500, "AltGraph", "AltGraph");
  assert.deepEqual(stroke(k, "+KeyQ", 600, "@", "AltGraph"), ["+16"]);
});

test("a key that repeated and no longer does is up", () => {
  const k = board(LINUX);
  stroke(k, "+KeyW", 1000);
  assert.equal(k.wake, null); // whether this keyboard repeats is not known yet
  stroke(k, "*KeyW", 1500);
  stroke(k, "*KeyW", 1530);
  const wake = k.wake!;
  assert.ok(wake > 1530 + 500, "the slowest repeats are two a second");
  assert.deepEqual(words(k.due(wake - 1)), []);
  assert.deepEqual(words(k.due(wake)), ["-17"]);
  assert.deepEqual(stroke(k, "-KeyW", wake + 5), []);
  stroke(k, "+KeyE", 10_000); // a key that never came to repeat, on a keyboard that does
  assert.ok(k.wake! >= 12_000, "the longest wait for the first repeat is two seconds");
  assert.deepEqual(words(k.due(k.wake!)), ["-18"]);
});

test("a key that cannot repeat any more stays down: another was pressed after it, or this keyboard never repeats", () => {
  const k = board(LINUX);
  stroke(k, "+KeyW", 1000);
  stroke(k, "*KeyW", 1500);
  stroke(k, "+KeyD", 1600);
  stroke(k, "-KeyD", 1700);
  assert.equal(k.wake, null);
  assert.deepEqual(words(k.due(60_000)), []);
  const silent = board(LINUX);
  stroke(silent, "+KeyW", 1000);
  assert.equal(silent.wake, null);
});

test("a page that was held up lifts nothing before it has seen the repeats that wait", () => {
  const k = board(LINUX);
  stroke(k, "+KeyW", 1000);
  stroke(k, "*KeyW", 1500);
  assert.deepEqual(words(k.due(9_000)), []);
  stroke(k, "*KeyW", 8_990);
  assert.deepEqual(words(k.due(9_010)), []);
  assert.deepEqual(words(k.due(k.wake!)), ["-17"]);
});

test("macOS tells of no key up while Meta is held: keys go up with it, modifiers and other systems' keys do not", () => {
  for (const [agent, want] of [[MAC, ["-125", "-46"]], [LINUX, ["-125"]]] as const) {
    const k = board(agent);
    stroke(k, "+MetaLeft", 1, "Meta", "Meta");
    stroke(k, "+ShiftLeft", 2, "Shift", "Meta Shift");
    stroke(k, "+KeyC", 3, "c", "Meta Shift");
    assert.deepEqual(stroke(k, "-MetaLeft", 4, "Meta", "Shift"), want);
  }
});

test("another connection gets what is still down", () => {
  const k = board(LINUX);
  stroke(k, "+ShiftLeft", 1, "Shift", "Shift");
  stroke(k, "+KeyW", 2, "W", "Shift");
  assert.deepEqual(words(k.again()), ["+42", "+17"]);
});

/** How far events turn, and in which steps. */
function turned(...events: [number, number?, number?][]): number[] {
  const w = new Wheel();
  return events.map(([deltaY, mode, told]) => w.turn({ deltaX: 0, deltaY, deltaMode: mode ?? 0, ...(told === undefined ? {} : { wheelDeltaX: 0, wheelDeltaY: told }) }).y);
}
const sum = (v: number[]) => v.reduce((a, b) => a + b, 0);

test("the same turn is the same distance: whole, halves, any grain, any system's lines, zoom and unit", () => {
  assert.deepEqual(turned([100, 0, -120]), [120]);
  assert.deepEqual(turned([50, 0, -60], [50, 0, -60]), [60, 60]);
  assert.deepEqual(turned([200, 0, -120]), [120]); // another number of lines a notch
  assert.deepEqual(turned([66.7, 0, -120]), [120]); // zoomed
  assert.deepEqual(turned([300, 0, -360]), [360]);
  assert.deepEqual(turned([3, 1]), [120]);
  assert.deepEqual(turned([3, 1, -120]), [120]);
  assert.deepEqual(turned([5, 1, -120]), [120]);
  assert.deepEqual(turned([1, 1], [1, 1], [1, 1]), [40, 40, 40]);
  assert.deepEqual(turned([48], [-48]), [120, -120]);
  for (const grain of [1, 7, 16, 48]) assert.equal(sum(turned(...Array.from({ length: 480 / grain }, () => [grain] as [number]))), Math.trunc((480 / grain | 0) * grain * 2.5), `${grain} px`);
  const fine = sum(turned(...Array.from({ length: 1000 }, () => [0.1] as [number])));
  assert.ok(Math.abs(fine - 250) <= 1, `${fine} units of 100 px in a thousand parts`);
  assert.deepEqual(turned([1, 2]), [960]);
  assert.deepEqual(turned([0.001, 0, -120]), [0]); // a turn that was not measured
  assert.deepEqual(turned([NaN], [Infinity], [0], [NaN, 0, -120]), [0, 0, 0, 0]);
});

test("both axes turn apart", () => {
  const w = new Wheel();
  assert.deepEqual(w.turn({ deltaX: 100, deltaY: 0, deltaMode: 0, wheelDeltaX: -120, wheelDeltaY: 0 }), { x: 120, y: 0 });
  assert.deepEqual(w.turn({ deltaX: 0.1, deltaY: -4, deltaMode: 0, wheelDeltaX: 0, wheelDeltaY: 12 }), { x: 0, y: -12 });
});

/** The text and keys that a field's events give, in the order browsers tell them. */
function written(...steps: [string, string, string?, boolean?][]): (string | number)[] {
  const c = new Composer(), out: (string | number)[] = [];
  const take = (t: Typed) => {
    if (t.text) out.push(t.text);
    if (t.tap) out.push(t.tap);
  };
  for (const [what, value, type, composing] of steps) {
    if (what === "start") c.start();
    if (what === "end") take(c.end(EMPTY + value));
    if (what === "input") take(c.input(value === "" && type!.startsWith("delete") ? "" : EMPTY + value, type ?? "insertText", composing ?? false));
    if (what === "key") {
      const code = c.key(value, composing ?? false);
      if (code !== null) out.push(code);
    }
  }
  return out;
}

test("what an input method composes arrives once, whichever of end and input comes last", () => {
  const composing = ["h", "he", "hel", "hell", "hello"].map((v) => ["input", v, "insertCompositionText", true] as [string, string, string, boolean]);
  assert.deepEqual(written(["start", ""], ...composing, ["end", "hello"]), ["hello"]); // Chromium
  assert.deepEqual(written(["start", ""], ...composing, ["end", "hello"], ["input", "", "insertCompositionText", false]), ["hello"]); // Firefox: the field is empty by then
  assert.deepEqual(written(["start", ""], ...composing, ["input", "", "deleteCompositionText", true], ["input", "hello", "insertFromComposition", true], ["end", "hello"]), ["hello"]); // Safari
  assert.deepEqual(written(["start", ""], ["input", "に", "insertCompositionText", true], ["key", "Enter", "", true], ["key", "Backspace", "", true], ["input", "日本", "insertCompositionText", true], ["end", "日本"], ["key", "Enter", "", false]), ["日本", 28]);
  assert.deepEqual(written(["start", ""], ["input", "x", "insertCompositionText", true], ["end", ""]), []); // given up
  assert.deepEqual(written(["start", ""], ["input", "a", "insertCompositionText", true], ["end", "a"], ["start", ""], ["input", "b", "insertCompositionText", true], ["end", "b"]), ["a", "b"]);
});

test("text without composition: letters, a paste, an emoji, dictation, and a backspace in an empty field", () => {
  assert.deepEqual(written(["input", "a"], ["input", "é"], ["input", "some pasted text", "insertFromPaste"], ["input", "😀", "insertText"], ["input", "one two", "insertDictationResult"]), ["a", "é", "some pasted text", "😀", "one two"]);
  assert.deepEqual(written(["input", "", "deleteContentBackward"], ["input", "", "deleteContentForward"]), [14, 111]);
  assert.deepEqual(written(["key", "ArrowLeft"], ["key", "Tab"], ["key", "a"], ["key", "Shift"], ["key", "Unidentified"]), [105, 15]);
});

test("long text is cut between characters", () => {
  assert.deepEqual(parts(""), []);
  assert.deepEqual(parts("é😀"), ["é😀"]);
  const long = "😀".repeat(2500), cut = parts(long);
  assert.equal(cut.join(""), long);
  assert.deepEqual(cut.map((p) => new TextEncoder().encode(p).length), [4096, 4096, 1808]);
});

test("what could not be typed is named once each, with the reason", () => {
  assert.equal(untypedText("😀é😀", "the desktop's keyboard layout has no key for it"), "Could not type 😀 é. The desktop's keyboard layout has no key for it.");
});

test("the area is in the screen's pixels, and says how many make one of the page's", () => {
  assert.deepEqual(area(1280, 720, 1), { width: 1280, height: 720, scale: 120 });
  assert.deepEqual(area(1280, 720, 2), { width: 2560, height: 1440, scale: 240 });
  assert.deepEqual(area(1001, 601, 1.25), { width: 1250, height: 750, scale: 150 });
  assert.deepEqual(area(9000, 10, 1), { width: 8192, height: 10, scale: 120 });
  assert.deepEqual(area(100, 100, NaN), { width: 100, height: 100, scale: 120 });
});
