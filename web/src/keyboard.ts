// What a keyboard's events mean for the desktop: which keys go down and up, and which locks hold. Pure: events and times go in, acts
// come out. Browsers differ in what they tell, so three things are never taken from one event alone: that Control was really pressed
// (Windows makes one for AltGr), that a lock changed (macOS tells its states, not its presses), and that a key is still down.

import { EVDEV } from "./keys.js";

/** Locks as bits, on the wire too. */
export const Lock = { caps: 1, num: 2, scroll: 4 } as const;

export type Act = { code: number; down: boolean } | { locks: number; known: number };

/** What any event tells of modifiers and locks. */
export interface Held { getModifierState(name: string): boolean }
export interface KeyStroke extends Held {
  type: string; // keydown or keyup
  code: string;
  key: string;
  timeStamp: number;
  repeat: boolean;
}

/** What the page's system does with keys. */
export interface Habits {
  /** AltGr is told as ControlLeft and AltRight. */
  fakeControl: boolean;
  /** No key tells that it was lifted while Meta is held. */
  metaSwallows: boolean;
  /** The locks whose state the browser knows; the others stay as they are at the desktop. */
  locks: number;
}

/** The habits of the system that navigator names. macOS has Caps Lock alone: Num Lock reads as off there, and keypads give digits. */
export function habits(userAgent: string): Habits {
  const windows = /Windows/.test(userAgent), mac = /Mac OS X|Macintosh|iPhone|iPad/.test(userAgent);
  const pc = windows || (/Linux/.test(userAgent) && !/Android|CrOS/.test(userAgent));
  return { fakeControl: windows, metaSwallows: mac, locks: Lock.caps | (pc ? Lock.num : 0) | (windows ? Lock.scroll : 0) };
}

/** The two events of AltGr carry the same time of Windows' message queue, whose clock moves in steps of at most 16 ms. */
const ALTGR_WITHIN = 20;
/** How long a ControlLeft is held back in case AltRight follows (ms): both are queued together, so only our own delay counts. Any other
 *  event ends the wait. */
const ALTGR_WAIT = 40;
/** A key that repeated and has not for this long (ms) is up: the slowest repeat of a desktop is two a second. */
const REPEAT_GAP = 1_200;
/** The longest time to the first repeat that a system offers is 2 s. */
const REPEAT_DELAY = 3_000;

/** The names under which getModifierState knows the keys that are modifiers. */
const MODIFIERS: Readonly<Record<string, readonly string[]>> = {
  ShiftLeft: ["Shift"], ShiftRight: ["Shift"], ControlLeft: ["Control"], ControlRight: ["Control"],
  AltLeft: ["Alt"], AltRight: ["Alt", "AltGraph"], MetaLeft: ["Meta"], MetaRight: ["Meta"], OSLeft: ["Meta"], OSRight: ["Meta"],
};
/** AltGr hides these: Windows takes its Control and Alt out of the state. */
const HIDDEN_BY_ALTGR = new Set(["ControlLeft", "ControlRight", "AltLeft"]);
const LOCKS: readonly [string, number][] = [["CapsLock", Lock.caps], ["NumLock", Lock.num], ["ScrollLock", Lock.scroll]];
/** What people make of Caps Lock in their own system; by its place it would lock at the desktop. */
const REMAPPED: Readonly<Record<string, string>> = { Control: "ControlLeft", Escape: "Escape", Backspace: "Backspace", Shift: "ShiftLeft", Meta: "MetaLeft", Alt: "AltLeft" };

export class Keyboard {
  /** Keys that are down at the desktop: the code of the event, and whether its modifier was affirmed since. */
  private readonly down = new Map<string, { affirmed: boolean }>();
  /** A ControlLeft that may be the first half of AltGr. */
  private control: { at: number } | null = null;
  private altGr = false; // held, with a Control that nobody pressed
  private told = -1; // locks; -1: none
  /** The key that repeats if it is still down: the last one pressed, nothing else having happened since. */
  private last: { code: string; at: number; repeated: boolean } | null = null;
  private repeats = false; // this keyboard does
  private wokenAt = 0;

  constructor(private readonly habits: Habits) {}

  get held(): boolean { return this.down.size > 0 || this.control !== null; }

  /** A key went down or up. */
  stroke(e: KeyStroke): Act[] {
    const code = place(e, this.habits.locks), pressed = e.type === "keydown", out: Act[] = [];
    if (this.isFakeControl(e, code, pressed)) return out;
    this.settle(out);
    this.deny(e, code, out);
    this.follow(e, out);
    if (code === "") return out; // a lock, or nothing that a keyboard of ours has
    if (this.habits.fakeControl && code === "ControlLeft" && pressed && !this.down.has(code)) {
      this.control = { at: e.timeStamp };
      this.wokenAt = e.timeStamp + ALTGR_WAIT;
      return out;
    }
    if (pressed) this.press(e, code, out);
    else this.lift(e, code, out);
    return out;
  }

  /** Another event of the person, which tells of modifiers and, if it is a mouse's, of locks. */
  look(e: Held, locks: boolean): Act[] {
    const out: Act[] = [];
    this.deny(e, "", out);
    if (locks) this.follow(e, out);
    return out;
  }

  /** Something that Control changes is about to be sent, a click or a turn of the wheel: a Control that is held back goes first. */
  settled(): Act[] {
    const out: Act[] = [];
    this.settle(out);
    return out;
  }

  /** When due wants to be called; null: not. */
  get wake(): number | null {
    if (this.control) return this.control.at + ALTGR_WAIT;
    if (!this.last || !this.repeats) return null;
    return this.last.at + (this.last.repeated ? REPEAT_GAP : REPEAT_DELAY);
  }

  /** Time has passed: a Control that stayed alone is one, and a key that ought to have repeated is up. */
  due(now: number): Act[] {
    const out: Act[] = [], wake = this.wake;
    if (wake === null || now < wake) return out;
    if (this.control) {
      this.settle(out);
      return out;
    }
    // A page that was held up itself has not seen the repeats yet: they come with its next events.
    if (now - wake > REPEAT_GAP / 2 && this.wokenAt !== wake) {
      this.last!.at += now - wake;
      this.wokenAt = this.wake!;
      return out;
    }
    this.raise(this.last!.code, out);
    return out;
  }

  /** Everything is up; locks are told again with the next event. */
  forget(): void {
    this.down.clear();
    this.control = this.last = null;
    this.altGr = false;
    this.told = -1;
  }

  /** What to tell a desktop that has let go of everything: the keys that are down. */
  again(): Act[] {
    this.told = -1;
    return [...this.down.keys()].map((code) => ({ code: EVDEV[code]!, down: true }));
  }

  /** Takes the Control that Windows makes for AltGr: down just before AltRight, repeated with it, up just before or after it. */
  private isFakeControl(e: KeyStroke, code: string, pressed: boolean): boolean {
    if (!this.habits.fakeControl) return false;
    if (code === "ControlLeft" && this.altGr && !this.down.has(code)) return true;
    if (code === "AltRight" && pressed && this.control && e.key !== "Alt" && e.timeStamp - this.control.at <= ALTGR_WITHIN) {
      this.control = null;
      this.altGr = true;
    }
    return false;
  }

  /** The Control that was held back was meant. */
  private settle(out: Act[]): void {
    if (!this.control) return;
    this.control = null;
    this.down.set("ControlLeft", { affirmed: false });
    out.push({ code: EVDEV["ControlLeft"]!, down: true });
  }

  /** Lifts the modifiers that e denies. One that was never affirmed is a key with another meaning here, and stays. */
  private deny(e: Held, self: string, out: Act[]): void {
    const altGraph = e.getModifierState("AltGraph");
    for (const [code, state] of [...this.down]) {
      const names = MODIFIERS[code];
      if (!names) continue;
      if (names.some((n) => e.getModifierState(n))) state.affirmed = true;
      else if (state.affirmed && code !== self && !(altGraph && HIDDEN_BY_ALTGR.has(code))) this.raise(code, out);
    }
  }

  private follow(e: Held, out: Act[]): void {
    let on = 0;
    for (const [name, bit] of LOCKS) if (this.habits.locks & bit && e.getModifierState(name)) on |= bit;
    if (on === this.told) return;
    this.told = on;
    out.push({ locks: on, known: this.habits.locks });
  }

  private press(e: KeyStroke, code: string, out: Act[]): void {
    if (this.down.has(code)) {
      if (e.repeat && !MODIFIERS[code]) {
        this.repeats = true;
        this.last = { code, at: e.timeStamp, repeated: true };
      }
      return; // the desktop repeats keys itself
    }
    const names = MODIFIERS[code];
    this.down.set(code, { affirmed: names?.some((n) => e.getModifierState(n)) ?? false });
    this.last = names ? null : { code, at: e.timeStamp, repeated: false };
    out.push({ code: EVDEV[code]!, down: true });
  }

  private lift(e: KeyStroke, code: string, out: Act[]): void {
    this.last = null;
    this.raise(code, out);
    if (this.habits.metaSwallows && e.key === "Meta") {
      for (const other of [...this.down.keys()]) if (!MODIFIERS[other]) this.raise(other, out);
    }
  }

  private raise(code: string, out: Act[]): void {
    if (code === "AltRight") this.altGr = false;
    if (!this.down.delete(code)) return;
    if (this.last?.code === code) this.last = null;
    out.push({ code: EVDEV[code]!, down: false });
  }
}

/** Says whether e is a key that the desktop gets, so that the browser must not act on it. */
export function taken(e: { code: string }): boolean { return EVDEV[e.code] !== undefined; }

/** The place of e's key, or "" for a lock, whose state is followed instead, and for what has no place. */
function place(e: KeyStroke, locks: number): string {
  switch (e.code) {
    case "CapsLock": return REMAPPED[e.key] ?? "";
    case "NumLock": return "";
    case "ScrollLock": return locks & Lock.scroll ? "" : e.code; // where it locks nothing it is a key like another
    default: return taken(e) ? e.code : "";
  }
}
