// The desktops one may use, kept fresh.

import { api, type Desktop } from "../api.js";
import { h, icon } from "../dom.js";
import { refusalTitle } from "../texts.js";

const REFRESH = 5_000;

const COMPOSITORS: Record<string, string> = { sway: "Sway", wlroots: "Sway", gnome: "GNOME", kde: "KDE Plasma", test: "Test pattern" };
const ENCODERS: [RegExp, string][] = [[/nvenc/, "NVENC"], [/vaapi/, "VA-API"], [/software|x264|openh264/, "software encoder"]];

/** What a plugin's name means to a person. */
function encoder(name: string): string {
  return ENCODERS.find(([p]) => p.test(name))?.[1] ?? name;
}

/** Keeps the titles for the viewer, which knows only the pool's name from its address. */
export function rememberTitles(desktops: Desktop[]): void {
  for (const d of desktops) sessionStorage.setItem(`wavry.title.${d.pool}`, d.title || d.pool);
}

/** The pool's title as last seen, or empty. */
export function titleOf(pool: string): string {
  return sessionStorage.getItem(`wavry.title.${pool}`) ?? "";
}

export function desktopsPage(problem: (e: unknown) => void): { element: HTMLElement; dispose: () => void } {
  const list = h("div", { class: "desktops" });
  let shown = "";
  const draw = (desktops: Desktop[]) => {
    const now = JSON.stringify(desktops);
    if (now === shown) return; // keeps the focus where it is
    shown = now;
    rememberTitles(desktops);
    list.replaceChildren(...(desktops.length > 0 ? desktops.map(card) : [empty()]));
  };
  let failed = false;
  const load = () => api.desktops().then(
    (d) => { failed = false; draw(d); },
    (e: unknown) => {
      if (!failed) problem(e);
      failed = true;
    },
  );
  const timer = setInterval(() => { if (!document.hidden) void load(); }, REFRESH);
  void load();
  const element = h("main", { class: "page" }, h("h1", {}, "Desktops"), list);
  return { element, dispose: () => clearInterval(timer) };
}

function card(d: Desktop): HTMLElement {
  const kind = [COMPOSITORS[d.compositor] ?? d.compositor, encoder(d.encoder)].filter(Boolean).join(" · ");
  const free = d.slots > 0 ? `${d.free} of ${d.slots} free` : "";
  const inner = [
    h("span", { class: "screen", "aria-hidden": "true" }, icon("screen")),
    h("span", { class: "text" }, h("strong", {}, d.title || d.pool), h("span", { class: "muted" }, kind)),
    h("span", { class: d.reason ? "state off" : "state on" }, d.reason ? refusalTitle(d.reason) : free),
  ];
  if (d.reason) return h("div", { class: "desktop", "aria-disabled": "true" }, ...inner);
  return h("a", { class: "desktop", href: `#/desktop/${encodeURIComponent(d.pool)}` }, ...inner);
}

function empty(): HTMLElement {
  return h("div", { class: "empty" }, h("strong", {}, "No desktops yet"),
    h("p", { class: "muted" }, "None is shared with you. An administrator decides who may use which."));
}
