// Events of the page to input of the desktop. Keys go by their place on the keyboard; the layout is the desktop's. Each input
// has an id of one counter that grows by one, wraps and leaves out 0.

import { BUTTONS, EVDEV, strokeOf } from "./keys.js";
import {
  TouchPhase, encodeButton, encodeKey, encodeMotionAbsolute, encodeMotionRelative, encodeReleaseAll, encodeScroll, encodeTouch,
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
/** Chromium's wheel delta of one notch. */
const NOTCH = 120;
/** Pixels of a line in deltaMode DOM_DELTA_LINE: Firefox scrolls three lines per notch. */
const LINE_PIXELS = 16;

/** One wheel event as pixels (1/256) and notches (1/120); notches are 0 for a touchpad. Pure, for tests. */
export function wheel(e: { deltaX: number; deltaY: number; deltaMode: number; wheelDeltaX?: number; wheelDeltaY?: number }) {
  const unit = e.deltaMode === 1 ? LINE_PIXELS : e.deltaMode === 2 ? 400 : 1;
  const dx = Math.round(e.deltaX * unit * 256) || 0, dy = Math.round(e.deltaY * unit * 256) || 0;
  const clamp = (v: number) => Math.max(-32768, Math.min(32767, Math.round(v))) || 0; // no -0
  if (e.deltaMode === 1) return { dx, dy, notchX: clamp((e.deltaX / 3) * NOTCH), notchY: clamp((e.deltaY / 3) * NOTCH) };
  const x = -(e.wheelDeltaX ?? 0), y = -(e.wheelDeltaY ?? 0);
  // A mouse wheel moves in whole notches, a touchpad does not.
  const notches = (x || y) && x % NOTCH === 0 && y % NOTCH === 0;
  return { dx, dy, notchX: notches ? clamp(x) : 0, notchY: notches ? clamp(y) : 0 };
}

/** A place on the page as 0..65535 across the picture, clamped to it. Pure, for tests. */
export function place(clientX: number, clientY: number, r: { left: number; top: number; width: number; height: number }) {
  const across = (v: number, from: number, size: number) =>
    size > 0 ? Math.max(0, Math.min(65535, Math.round(((v - from) / size) * 65535))) : 0;
  return { x: across(clientX, r.left, r.width), y: across(clientY, r.top, r.height) };
}

export class Input {
  /** False for those who only watch, and while something of ours is in front. */
  enabled = false;
  private sink: InputSink | null = null;
  private id = 0;
  private keys = new Set<number>();
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

  /** Sends to another connection from now on. Relative motion counts from its start. */
  attach(sink: InputSink | null): void {
    this.sink = sink;
    this.totalX = this.totalY = 0;
  }

  /** Listens until the signal ends. */
  listen(signal: AbortSignal): void {
    const on = <K extends keyof HTMLElementEventMap>(t: EventTarget, type: K | string, f: (e: never) => void, passive = false) =>
      t.addEventListener(type, f as EventListener, { signal, passive });
    on(this.stage, "keydown", (e: KeyboardEvent) => this.key(e, true));
    on(this.stage, "keyup", (e: KeyboardEvent) => this.key(e, false));
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
    signal.addEventListener("abort", () => clearTimeout(this.motionTimer), { once: true });
  }

  /** Lifts everything at the desktop: the page lost the focus, or input goes elsewhere. */
  releaseAll(): void {
    const held = this.keys.size > 0 || this.buttons !== 0 || this.fingers.size > 0;
    this.keys.clear();
    this.fingers.clear();
    this.buttons = 0;
    if (held) this.reliable((id) => encodeReleaseAll(id), performance.now());
  }

  /** Types text through strokes of a US layout, for on-screen keyboards. Characters it does not have are left out. */
  type(text: string): void {
    const shift = EVDEV["ShiftLeft"]!;
    for (const ch of text) {
      const s = strokeOf(ch);
      if (!s) continue;
      if (s.shift) this.stroke(shift, true);
      this.tap(s.code);
      if (s.shift) this.stroke(shift, false);
    }
  }

  tap(code: number): void {
    this.stroke(code, true);
    this.stroke(code, false);
  }

  private stroke(code: number, down: boolean): void {
    this.reliable((id) => encodeKey(id, code, down), performance.now());
  }

  private key(e: KeyboardEvent, down: boolean): void {
    if (this.shortcut(e) || !this.enabled) return;
    const code = EVDEV[e.code];
    if (code === undefined) return; // an on-screen keyboard: its text comes through type()
    e.preventDefault();
    if (down === this.keys.has(code)) return; // the desktop repeats keys itself
    if (down) this.keys.add(code);
    else this.keys.delete(code);
    this.reliable((id) => encodeKey(id, code, down), e.timeStamp);
    // macOS tells no key up while Meta is held: whatever else is down is lifted with it.
    if (!down && e.key === "Meta" && this.keys.size > 0) this.releaseAll();
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
    const w = wheel(e as WheelEvent & { wheelDeltaX?: number; wheelDeltaY?: number });
    this.reliable((id) => encodeScroll(id, w.dx, w.dy, w.notchX, w.notchY), e.timeStamp);
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
