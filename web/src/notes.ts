// The last lines of what happened on this page, for window.wavry.log() and for support.

const MAX_NOTES = 300;

/** Newest last. */
export const notes: string[] = [];

export function note(text: string): void {
  notes.push(`${Math.round(performance.now())} ${text}`);
  if (notes.length > MAX_NOTES) notes.shift();
}
