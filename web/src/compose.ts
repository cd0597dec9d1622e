// The hidden text field: on-screen keyboards, input methods, dictation and emoji pickers write into it. What an input method is still
// composing changes with every letter and belongs to nobody yet; the desktop gets it once, when it is composed. Pure: what the field's
// events tell goes in, text and keys come out.

import { EVDEV } from "./keys.js";

/** What the field holds while it is empty: a character nobody sees, so that deleting has something to delete. Without it an on-screen
 *  keyboard tells nothing of a backspace. */
export const EMPTY = "\u200b";

export interface Typed {
  text?: string;
  /** evdev code of a key to tap. */
  tap?: number;
  /** Put EMPTY into the field. */
  reset: boolean;
}

const NOTHING: Typed = { reset: false };

export class Composer {
  private composing = false;

  start(): void { this.composing = true; }

  /** The composition is over; value is the field's. Some browsers tell the input before, others after: the field is emptied here. */
  end(value: string): Typed {
    this.composing = false;
    return written(value);
  }

  input(value: string, inputType: string, isComposing: boolean): Typed {
    if (this.composing || isComposing) return NOTHING;
    if (inputType.startsWith("delete") && value === "") {
      return { tap: EVDEV[inputType.endsWith("Forward") ? "Delete" : "Backspace"]!, reset: true };
    }
    return written(value);
  }

  /** A key of the field that gives no text. While something is composed, all keys belong to the input method. */
  key(key: string, isComposing: boolean): number | null {
    if (this.composing || isComposing || key.length === 1) return null;
    return (KEYS.has(key) && EVDEV[key]) || null;
  }
}

/** Keys without text, whose name is also that of their place. */
const KEYS = new Set(
  "Backspace Enter Tab Escape Delete Home End PageUp PageDown ArrowUp ArrowDown ArrowLeft ArrowRight Insert F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12".split(" "),
);

function written(value: string): Typed {
  const text = value.replaceAll(EMPTY, "");
  return text ? { text, reset: true } : { reset: value !== EMPTY };
}
