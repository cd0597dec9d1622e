// Events of the page to input of the desktop. Keys go by their place on the keyboard; the layout is the desktop's. Each input
// has an id of one counter that grows by one, wraps and leaves out 0.

import { Keyboard, habits, taken, type Act, type Held } from "./keyboard.js";
import { BUTTONS } from "./keys.js";
import { Wheel } from "./wheel.js";
import {
  MAX_TEXT, TouchPhase, encodeButton, encodeKey, encodeLocks, encodeMotionAbsolute, encodeMotionRelative, encodeReleaseAll, encodeScroll,
  encodeText, encodeTouch,
} from "./wire.js";

/** Where input goes: streams for what must arrive, datagrams for motion. */
export interface InputSink {
  reliable(b: Uint8Array): void;
  datagram(b: Uint8Array): void;
  /** An input with this id left; at is the event's own time in microseconds. */
  sent(id: number, at: number): void;
}

/** Motion is sent at most this often (ms): mice report up to 1000 times a second, pictures change 60 times. */
const MOTION_INTERVAL = 4;
/** text in parts that one message carries each, cut between characters. Pure, for tests. */
export function parts(text: string): string[] {
  const out: string[] = [], longest = MAX_TEXT / 4; // bytes of a character at most
  let part = "", n = 0;
  for (const ch of text) {
    part += ch;
    if (++n < longest) continue;
    out.push(part);
    part = "";
    n = 0;
  }
  return part ? [...out, part] : out;
}

/** A place on the page as 0..65535 across the picture, clamped to it. Pure, for tests. */
export function place(clientX: number, clientY: number, r: { left: number; top: number; width: number; height: number }) {
  const across = (v: number, from: number, size: number) =>
    size > 0 ? Math.max(0, Math.min(65535, Math.round(((v - from) / size) * 65535))) : 0;
  return { x: across(clientX, r.left, r.width), y: across(clientY, r.top, r.height) };
}

export class Input {
  private sink: InputSink | null = null;
  private id = 0;
  private on = false;
  private readonly keyboard = new Keyboard(habits(navigator.userAgent));
  private keyTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly wheels = new Wheel();
  private buttons = 0;
  private fingers = new Map<number, number>();
  private totalX = 0;
  private totalY = 0;
  private raw = false;
  private lastPlace = "";
  private motionAt = 0;
  private motionTimer: ReturnType<typeof setTimeout> | undefined;
  private motion: (() => void) | null = null;

  constructor(
    private readonly stage: HTMLElement,
    private readonly picture: HTMLElement,
    /** Sees each key first; true when it was a shortcut of the page. */
    private readonly shortcut: (e: KeyboardEvent) => boolean,
  ) {}

  /** False for those who only watch, and while something of ours is in front. */
  get enabled(): boolean { return this.on; }
  set enabled(on: boolean) {
    if (this.on && !on) this.releaseAll();
    this.on = on;
  }

  /** Sends to another connection from now on. Relative motion counts from its start. What was lifted while the old one was dying may
   *  never have reached the desktop: it lets go of everything, and gets what is still down. */
  attach(sink: InputSink | null): void {
    const moved = this.sink !== null && sink !== null;
    this.sink = sink;
    this.totalX = this.totalY = 0;
    if (!moved || !this.on) return;
    const now = performance.now();
    this.reliable((id) => encodeReleaseAll(id), now);
    this.buttons = 0; // the next event of the pointer presses them again
    this.play(this.keyboard.again(), now);
  }

  /** Listens until the signal ends. */
  listen(signal: AbortSignal): void {
    const on = <K extends keyof HTMLElementEventMap>(t: EventTarget, type: K | string, f: (e: never) => void, passive = false) =>
      t.addEventListener(type, f as EventListener, { signal, passive });
    on(this.stage, "keydown", (e: KeyboardEvent) => this.key(e));
    on(this.stage, "keyup", (e: KeyboardEvent) => this.key(e));
    on(this.stage, "pointerdown", (e: PointerEvent) => this.down(e));
    on(this.stage, "pointerup", (e: PointerEvent) => this.pointer(e, TouchPhase.up));
    on(this.stage, "pointercancel", (e: PointerEvent) => this.pointer(e, TouchPhase.cancel));
    // Raw updates come as the device sends them; a move sums up those since the last animation frame, so its motion counts only
    // where there are none.
    on(this.stage, "pointerrawupdate", (e: PointerEvent) => {
      this.raw = true;
      this.moved(e, e.movementX, e.movementY);
    });
    on(this.stage, "pointermove", (e: PointerEvent) => {
      this.moved(e, this.raw ? 0 : e.movementX, this.raw ? 0 : e.movementY);
      this.raw = false;
    });
    on(this.stage, "wheel", (e: WheelEvent) => this.wheel(e));
    on(this.stage, "contextmenu", (e: Event) => e.preventDefault());
    on(this.stage, "blur", () => this.releaseAll());
    on(window, "blur", () => this.releaseAll());
    on(document, "visibilitychange", () => document.hidden && this.releaseAll());
    signal.addEventListener("abort", () => {
      clearTimeout(this.motionTimer);
      clearTimeout(this.keyTimer);
    }, { once: true });
  }

  /** Lifts everything at the desktop: the page lost the focus, or input goes elsewhere. */
  releaseAll(): void {
    const held = this.keyboard.held || this.buttons !== 0 || this.fingers.size > 0;
    this.keyboard.forget();
    clearTimeout(this.keyTimer);
    this.fingers.clear();
    this.buttons = 0;
    if (held) this.reliable((id) => encodeReleaseAll(id), performance.now());
  }

  /** Types text, whatever the desktop's layout has. What it cannot type, the host tells. */
  type(text: string): void {
    if (!this.enabled) return;
    for (const part of parts(text)) this.reliable((id) => encodeText(id, part), performance.now());
  }

  tap(code: number): void {
    if (!this.enabled) return;
    const now = performance.now();
    this.play([{ code, down: true }, { code, down: false }], now);
  }

  private key(e: KeyboardEvent): void {
    if (this.shortcut(e) || !this.enabled) return;
    if (!taken(e)) return; // an on-screen keyboard: its text comes through type()
    e.preventDefault();
    this.play(this.keyboard.stroke(e), e.timeStamp);
    this.wakeKeyboard();
  }

  /** Lets an event that is no key's correct what is believed of modifiers and locks. */
  private look(e: Held & Event, locks: boolean): void {
    this.play(this.keyboard.look(e, locks), e.timeStamp);
    this.wakeKeyboard();
  }

  private wakeKeyboard(): void {
    clearTimeout(this.keyTimer);
    const wake = this.keyboard.wake;
    if (wake === null) return;
    this.keyTimer = setTimeout(() => {
      const now = performance.now();
      this.play(this.keyboard.due(now), now);
      this.wakeKeyboard();
    }, Math.max(1, wake - performance.now()));
  }

  private play(acts: Act[], at: number): void {
    for (const a of acts) this.reliable((id) => ("code" in a ? encodeKey(id, a.code, a.down) : encodeLocks(id, a.known, a.locks)), at);
  }

  private down(e: PointerEvent): void {
    this.stage.focus({ preventScroll: true });
    if (!this.enabled) return;
    if (document.pointerLockElement !== this.stage) this.stage.setPointerCapture(e.pointerId);
    this.pointer(e, TouchPhase.down);
  }

  private pointer(e: PointerEvent, phase: number): void {
    if (!this.enabled) return;
    e.preventDefault();
    this.look(e, e.pointerType === "mouse");
    if (e.pointerType === "touch") return this.touch(e, phase);
    this.buttonsOf(e);
  }

  private moved(e: PointerEvent, dx: number, dy: number): void {
    if (!this.enabled) return;
    if (document.pointerLockElement !== this.stage) {
      const here = `${e.pointerId} ${e.clientX} ${e.clientY}`;
      if (here === this.lastPlace) return this.buttonsOf(e);
      this.lastPlace = here;
    }
    this.look(e, e.pointerType === "mouse");
    if (e.pointerType === "touch") return this.touch(e, TouchPhase.move);
    this.buttonsOf(e);
    if (document.pointerLockElement === this.stage) return this.relative(e, dx, dy);
    const at = place(e.clientX, e.clientY, this.picture.getBoundingClientRect());
    this.later(() => this.datagram((id) => encodeMotionAbsolute(id, at.x, at.y), e.timeStamp));
  }

  private relative(e: PointerEvent, dx: number, dy: number): void {
    if (dx === 0 && dy === 0) return;
    this.totalX = (this.totalX + Math.round(dx * 256)) | 0;
    this.totalY = (this.totalY + Math.round(dy * 256)) | 0;
    this.later(() => this.datagram((id) => encodeMotionRelative(id, this.totalX, this.totalY), e.timeStamp));
  }

  /** Sends motion now, or the newest one when the interval has passed. */
  private later(send: () => void): void {
    this.motion = send;
    const wait = this.motionAt + MOTION_INTERVAL - performance.now();
    if (wait <= 0) return this.flushMotion();
    this.motionTimer ??= setTimeout(() => this.flushMotion(), wait);
  }

  private flushMotion(): void {
    clearTimeout(this.motionTimer);
    this.motionTimer = undefined;
    this.motionAt = performance.now();
    const send = this.motion;
    this.motion = null;
    send?.();
  }

  private buttonsOf(e: PointerEvent): void {
    if (!this.enabled || e.pointerType === "touch") return;
    const changed = e.buttons ^ this.buttons;
    if (changed === 0) return;
    this.play(this.keyboard.settled(), e.timeStamp);
    this.motion = null; // a placed button says where the pointer is
    this.buttons = e.buttons;
    const at = document.pointerLockElement === this.stage ? null : place(e.clientX, e.clientY, this.picture.getBoundingClientRect());
    BUTTONS.forEach((code, i) => {
      const bit = 1 << i;
      if (changed & bit) this.reliable((id) => encodeButton(id, code, (e.buttons & bit) !== 0, at), e.timeStamp);
    });
  }

  private touch(e: PointerEvent, phase: number): void {
    let finger = this.fingers.get(e.pointerId);
    if (phase === TouchPhase.down) {
      const used = new Set(this.fingers.values());
      this.play(this.keyboard.settled(), e.timeStamp);
      finger = 0;
      while (used.has(finger)) finger++;
      this.fingers.set(e.pointerId, finger);
    }
    if (finger === undefined) return;
    if (phase === TouchPhase.up || phase === TouchPhase.cancel) this.fingers.delete(e.pointerId);
    const at = place(e.clientX, e.clientY, this.picture.getBoundingClientRect());
    this.reliable((id) => encodeTouch(id, finger, phase, at.x, at.y), e.timeStamp);
  }

  private wheel(e: WheelEvent): void {
    if (!this.enabled) return;
    e.preventDefault();
    this.look(e, true);
    this.play(this.keyboard.settled(), e.timeStamp);
    const t = this.wheels.turn(e as WheelEvent & { wheelDeltaX?: number; wheelDeltaY?: number });
    if (t.x || t.y) this.reliable((id) => encodeScroll(id, t.x, t.y), e.timeStamp);
  }

  private reliable(encode: (id: number) => Uint8Array, at: number): void {
    if (!this.sink) return;
    const id = this.nextID();
    this.sink.reliable(encode(id));
    this.sink.sent(id, at * 1000);
  }

  private datagram(encode: (id: number) => Uint8Array, at: number): void {
    if (!this.sink) return;
    const id = this.nextID();
    this.sink.datagram(encode(id));
    this.sink.sent(id, at * 1000);
  }

  private nextID(): number {
    this.id = (this.id + 1) >>> 0 || 1;
    return this.id;
  }
}
