// What a person is told, and what they can do about it. One place, so that the words stay plain and alike.

import { Code } from "./wire.js";

/** again: ask for a desktop anew. takeBack: the same with this window in front. list: back to the list. reload: load the page anew. */
export type Action = "again" | "takeBack" | "list" | "reload" | "signIn" | "none";

export interface Ending { title: string; text: string; action: Action }

const ENDINGS: Record<number, Ending> = {
  [Code.ended]: { title: "Session ended", text: "You can start a new one at any time.", action: "again" },
  [Code.protocol]: { title: "Viewer and host do not understand each other", text: "Reload the page to get the viewer that fits.", action: "reload" },
  [Code.version]: { title: "This page is out of date", text: "Reload it to get the viewer that fits the host.", action: "reload" },
  [Code.lease]: { title: "Your time on this desktop has ended", text: "Connect again to get a new lease.", action: "again" },
  [Code.replaced]: { title: "Open in another window", text: "This session goes on where it was opened last. You can take it back here.", action: "takeBack" },
  [Code.controlled]: { title: "Somebody else is in control", text: "Wait until they are done, or ask them for a link to watch.", action: "again" },
  [Code.draining]: { title: "This host is going down for maintenance", text: "Connect again: another host takes over.", action: "again" },
  [Code.operator]: { title: "An operator ended this session", text: "Ask them why, or connect again.", action: "again" },
  [Code.host]: { title: "The host lost its picture", text: "Its capture or encoder failed. Connect again to get another host.", action: "again" },
  [Code.grace]: { title: "The connection was lost for too long", text: "The host has let go of the session. Connect again.", action: "again" },
  [Code.proof]: { title: "This page could not prove that the session is its own", text: "Connect again.", action: "again" },
  [Code.full]: { title: "Too many people are watching", text: "Try again when somebody has left.", action: "again" },
};

/** The ending for a Bye code; the host's own sentence, when it sent one, comes first. */
export function ending(code: number, text: string): Ending {
  const e = ENDINGS[code] ?? { title: "Session ended", text: "The host ended the session. Connect again.", action: "again" as const };
  return text ? { ...e, text: sentence(text) + " " + e.text } : e;
}

/** The ending for the gateway's offer of another host: the present one is gone, and the message says how. */
export function offerEnding(reason: string, message: string): Ending {
  if (reason === "host_drained") return ending(Code.draining, message);
  return { title: "The host was lost", text: sentence(message || "Another one can take over."), action: "again" };
}

const REFUSALS: Record<string, [string, Action]> = {
  no_host: ["No desktop is free right now", "again"],
  no_free_host: ["No desktop is free right now", "again"],
  pool_unknown: ["No host offers this desktop now", "again"],
  host_unavailable: ["The host is not available", "again"],
  host_unreachable: ["The host is not available", "again"],
  host_prepare_failed: ["The host is not available", "again"],
  no_relay: ["No way to the host is free right now", "again"],
  master_away: ["The control plane is not available", "again"],
  not_ready: ["The control plane is not available", "again"],
  rate_limited: ["Too many tries", "again"],
  forbidden: ["You may not use this desktop", "list"],
  banned: ["You are banned", "list"],
  not_signed_in: ["You are signed out", "signIn"],
  no_session: ["This session is over", "list"],
  unreachable: ["The gateway cannot be reached", "again"],
  bad_grant: ["The host could not prove who it is", "list"],
};

/** The ending for a refusal of the gateway. */
export function refusalEnding(reason: string, message: string): Ending {
  const [title, action] = REFUSALS[reason] ?? ["No desktop", "again" as const];
  return { title, text: sentence(message), action };
}

/** A refusal's reason in a few words, or the reason itself when it is a sentence. */
export function refusalTitle(reason: string): string {
  return REFUSALS[reason]?.[0] ?? sentence(reason);
}

export const UNREACHABLE: Ending = {
  title: "The host cannot be reached",
  text: "Your network may block UDP, which the picture travels on. Try another network, or tell your operator.",
  action: "again",
};

export const ACTIONS: Record<Action, string> = {
  again: "Connect again",
  takeBack: "Take it back",
  list: "Back to the desktops",
  reload: "Reload",
  signIn: "Sign in",
  none: "",
};

/** Who watches, for the one who is watched. A person without a name is told of all the same. */
export function watchedBy(names: string[]): string {
  return `Watched by ${list(names.map((n) => n || "somebody"))}`;
}

/** What somebody who watches sees of whose desktop it is. */
export function watching(owner: string): string {
  return owner ? `Watching ${owner}` : "Watching";
}

function list(words: string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** Starts with a capital and ends with a full stop. */
export function sentence(text: string): string {
  const t = text.trim();
  if (!t) return t;
  return t[0]!.toUpperCase() + t.slice(1) + (/[.!?]$/.test(t) ? "" : ".");
}

/** What the browser lacks, as sentences; empty when nothing. */
export async function missing(decodable: () => Promise<number[]>): Promise<string[]> {
  if (!window.isSecureContext) return ["This page was opened over plain HTTP. Open it over https: browsers allow desktops only there."];
  const out: string[] = [];
  if (!("WebTransport" in window)) out.push("WebTransport, which carries the picture.");
  if (!("VideoDecoder" in window)) out.push("WebCodecs, which decodes the picture.");
  else if ((await decodable()).length === 0) out.push("an H.264 decoder. Some builds of Chromium come without one; Chrome and Edge have it.");
  if (!("subtle" in crypto)) out.push("WebCrypto, which checks who the host is.");
  return out;
}

/** What the person reads when characters did not arrive: which, and why. */
export function untypedText(characters: string, reason: string): string {
  const shown = [...new Set(characters)].slice(0, 20).join(" ");
  return `Could not type ${shown}. ${sentence(reason)}`.trim();
}
