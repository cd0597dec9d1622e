// Candidates are raced: the best first, the next after a head start or as soon as all before it have failed. The first one
// that opens wins, and the others are closed.

import type { Candidate } from "./api.js";

/** How long a better candidate is alone before the next one starts (ms): a LAB or home connection answers well within it. */
export const HEAD_START = 250;

export interface Attempt<T> { candidate: Candidate; value: T }

/** Why no candidate could be reached, one line each. */
export class Unreachable extends Error {
  constructor(readonly causes: string[]) {
    super(causes.join("; ") || "no candidates");
    this.name = "Unreachable";
  }
}

/** Best first; equal priorities keep their order, direct before relay. */
export function ordered(candidates: Candidate[]): Candidate[] {
  const rank = (c: Candidate) => (c.kind === "direct" ? 0 : 1);
  return candidates.slice().sort((a, b) => b.priority - a.priority || rank(a) - rank(b));
}

/** Races the candidates. open must honour the signal; close is called for those that opened too late. Rejects with Unreachable. */
export function race<T>(
  candidates: Candidate[],
  open: (c: Candidate, signal: AbortSignal) => Promise<T>,
  close: (v: T) => void,
  signal: AbortSignal,
  headStart = HEAD_START,
): Promise<Attempt<T>> {
  const queue = ordered(candidates);
  const abort = new AbortController();
  return new Promise((resolve, reject) => {
    let running = 0, settled = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const causes: string[] = [];
    const settle = (f: () => void) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      f();
      abort.abort();
    };
    const next = () => {
      clearTimeout(timer);
      const c = queue.shift();
      if (!c) {
        if (running === 0) settle(() => reject(new Unreachable(causes)));
        return;
      }
      running++;
      if (queue.length > 0) timer = setTimeout(next, headStart);
      open(c, abort.signal).then(
        (value) => {
          if (settled) return close(value);
          settle(() => resolve({ candidate: c, value }));
        },
        (err: unknown) => {
          running--;
          causes.push(`${c.kind}${c.relay ? " " + c.relay : ""}: ${err instanceof Error ? err.message : String(err)}`);
          if (!settled && (running === 0 || queue.length > 0)) next();
        },
      );
    };
    signal.addEventListener("abort", () => settle(() => reject(new DOMException("left", "AbortError"))), { once: true });
    if (signal.aborted) settle(() => reject(new DOMException("left", "AbortError")));
    else next();
  });
}
