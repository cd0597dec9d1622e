// The few helpers that stand in for a framework.

type Child = Node | string | null | undefined | false;
type Listener = (e: Event) => void;

/** Builds an element: attributes by name, listeners as on*, true for empty attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Record<string, string | number | boolean | Listener | null | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag);
  for (const [name, v] of Object.entries(props)) {
    if (v === null || v === undefined || v === false) continue;
    if (typeof v === "function") e.addEventListener(name.slice(2), v);
    else e.setAttribute(name, v === true ? "" : String(v));
  }
  e.append(...children.filter((c): c is Node | string => c !== null && c !== undefined && c !== false));
  return e;
}

const SVG = "http://www.w3.org/2000/svg";

/** Icons as paths on a 20x20 grid, drawn with the text's colour. */
const ICONS = {
  fullscreen: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4",
  fit: "M2.5 4.5h15v11h-15zM6 10h8M11.5 7.5 14 10l-2.5 2.5M8.5 7.5 6 10l2.5 2.5",
  pointer: "M5 3l10 7-4.5.8L8 15.5z",
  stats: "M3.5 16.5v-5M8 16.5v-9M12.5 16.5v-7M17 16.5v-12",
  link: "M8.5 11.5a3 3 0 0 0 4.300 0l3-3a3 3 0 0 0-4.300-4.300l-1 1M11.5 8.5a3 3 0 0 0-4.300 0l-3 3a3 3 0 0 0 4.300 4.300l1-1",
  leave: "M12 4h4v12h-4M3.5 10h8M8.5 6.5 12 10l-3.5 3.5",
  keyboard: "M2.5 5.5h15v9h-15zM5.5 8.5h.1M8.5 8.5h.1M11.5 8.5h.1M14.5 8.5h.1M6.5 11.5h7",
  more: "M5 10h.1M10 10h.1M15 10h.1",
  screen: "M2.5 3.5h15v10h-15zM7 17h6M10 13.5V17",
  eye: "M2 10s3-5.5 8-5.5 8 5.5 8 5.5-3 5.5-8 5.5-8-5.5-8-5.5zM10 7.5a2.5 2.5 0 1 0 .1 0",
  back: "M12 4 6 10l6 6",
} as const;
export type Icon = keyof typeof ICONS;

export function icon(name: Icon): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  const attributes: Record<string, string> = {
    viewBox: "0 0 20 20", width: "18", height: "18", fill: "none", stroke: "currentColor", "stroke-width": "1.5",
    "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true",
  };
  for (const [k, v] of Object.entries(attributes)) svg.setAttribute(k, v);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** The mark: three waves leaving a screen's corner. */
export function logo(size: number): HTMLElement {
  return h("img", { src: "logo.svg", width: size, height: size, alt: "" });
}

let toastTimer: ReturnType<typeof setTimeout> | undefined;

/** Says something for a few seconds, to screen readers too. */
export function toast(text: string, kind: "ok" | "bad" = "ok"): void {
  document.querySelector(".toast")?.remove();
  clearTimeout(toastTimer);
  // A popover lies above dialogs too.
  const t = h("div", { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status", popover: "manual" }, text);
  document.body.append(t);
  t.showPopover?.();
  toastTimer = setTimeout(() => t.remove(), kind === "bad" ? 6_000 : 3_000);
}

export interface Field { name: string; label: string; type?: string; value?: string; options?: string[]; required?: boolean; hint?: string; autocomplete?: string }

/** A labelled input, select or text. */
export function field(f: Field): HTMLElement {
  const id = `f-${f.name}-${Math.random().toString(36).slice(2, 7)}`;
  const control = f.options
    ? h("select", { id, name: f.name }, ...f.options.map((o) => h("option", { value: o, selected: o === f.value }, o || "any")))
    : h("input", {
        id, name: f.name, type: f.type ?? "text", value: f.value ?? null, required: f.required ?? false,
        autocomplete: f.autocomplete ?? "off", spellcheck: "false", autocapitalize: "off",
        inputmode: f.type === "number" ? "numeric" : null,
      });
  return h("div", { class: "field" }, h("label", { for: id }, f.label), control, f.hint && h("small", {}, f.hint));
}

/** The values of a form's fields. */
export function values(form: HTMLFormElement): Record<string, string> {
  return Object.fromEntries([...new FormData(form)].map(([k, v]) => [k, String(v)]));
}

/** A question in a dialog; resolves to the fields' values, or null when the person changed their mind. */
export function ask(title: string, text: string, fields: Field[], confirm: string, danger = false): Promise<Record<string, string> | null> {
  return new Promise((resolve) => {
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = h("form", { method: "dialog" },
      h("h2", {}, title), text ? h("p", {}, text) : null, ...fields.map(field),
      h("div", { class: "row end" }, cancel, h("button", { class: danger ? "danger" : "primary", value: "ok" }, confirm)));
    const dialog = h("dialog", { "aria-label": title }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "ok" ? values(form) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Shows something until it is closed. */
export function show(title: string, ...content: Child[]): Promise<void> {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" }, h("h2", {}, title), ...content,
      h("div", { class: "row end" }, h("button", { class: "primary" }, "Done")));
    const dialog = h("dialog", { "aria-label": title }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    await show(what, h("p", { class: "mono wrap" }, text));
  }
}

/** "3 min ago", "in 2 h"; the full time as a tooltip. */
export function when(rfc3339: string | undefined, now = Date.now()): HTMLElement | string {
  const t = rfc3339 ? Date.parse(rfc3339) : NaN;
  if (!(t > 0)) return "";
  return h("time", { datetime: rfc3339!, title: new Date(t).toLocaleString() }, relative(t - now));
}

/** A span of milliseconds in words: negative is past. */
export function relative(ms: number): string {
  const s = Math.round(Math.abs(ms) / 1000);
  const [n, unit] = s < 60 ? [s, "s"] : s < 3600 ? [Math.round(s / 60), "min"] : s < 172_800 ? [Math.round(s / 3600), "h"] : [Math.round(s / 86_400), "d"];
  if (s < 5) return "now";
  return ms < 0 ? `${n} ${unit} ago` : `in ${n} ${unit}`;
}
