// What the host must know and only the viewer sees: when units arrived, were decoded and presented, and how long an input
// took to be seen. Collected here, sent 20 to 50 times a second. Pure: times come in as arguments (microseconds).

import { MAX_INPUT_REPORTS, MAX_REPORTS, NOT_YET, after, type Feedback, type InputReport, type UnitReport } from "./wire.js";

/** A unit that was not presented within this time never will be: the picture after it was drawn instead. */
const FORGET_AFTER = 1_000_000;

interface Entry extends UnitReport { changed: boolean }

export class Reports {
  private units = new Map<number, Entry>();
  private inputs: InputReport[] = [];

  received(sequence: number, at: number): void {
    this.units.set(sequence, { sequence, received: at, decode: NOT_YET, present: NOT_YET, changed: true });
  }

  decoded(sequence: number, at: number): void {
    const u = this.units.get(sequence);
    if (!u) return;
    u.decode = Math.max(0, at - u.received);
    u.changed = true;
  }

  presented(sequence: number, at: number): void {
    const u = this.units.get(sequence);
    if (!u) return;
    u.present = Math.max(0, at - u.received);
    u.changed = true;
  }

  /** Inputs beyond what one datagram carries are left out, oldest first: they are samples. */
  input(report: InputReport): void {
    this.inputs.push(report);
    if (this.inputs.length > MAX_INPUT_REPORTS) this.inputs.shift();
  }

  /** The next datagram's content. */
  take(now: number, highest: number, lost: number, undecoded: number): Feedback {
    const units: UnitReport[] = [];
    for (const u of this.units.values()) {
      if (u.changed && units.length < MAX_REPORTS) {
        units.push({ sequence: u.sequence, received: u.received, decode: u.decode, present: u.present });
        u.changed = false;
      }
      if (!u.changed && (u.present !== NOT_YET || now - u.received > FORGET_AFTER)) this.units.delete(u.sequence);
    }
    const inputs = this.inputs;
    this.inputs = [];
    return { now, highest, lost, undecoded: Math.min(255, undecoded), units, inputs };
  }
}

/** Inputs that are remembered until a picture shows them. */
const MAX_PENDING = 512;
/** An input that nothing answered within this time is not measured: the host dropped it, or it changed nothing. */
const PENDING_LIMIT = 5_000_000;

/** InputLatency measures from an input event to the first presented picture that was captured after the host applied it. */
export class InputLatency {
  private pending: { id: number; at: number }[] = [];

  /** An input event happened (event time, not sending time). */
  sent(id: number, at: number): void {
    this.pending.push({ id, at });
    if (this.pending.length > MAX_PENDING) this.pending.shift();
  }

  /** A picture with this last applied input was presented. Returns what it answers. */
  presented(lastInput: number, at: number): InputReport[] {
    if (lastInput === 0) return [];
    const done: InputReport[] = [];
    this.pending = this.pending.filter((p) => {
      if (after(p.id, lastInput)) return at - p.at < PENDING_LIMIT;
      if (at >= p.at) done.push({ id: p.id, latency: Math.round(at - p.at) });
      return false;
    });
    return done;
  }

  clear(): void {
    this.pending = [];
  }
}
