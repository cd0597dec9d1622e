// The statistics overlay: what a person who asks "why is it slow" wants to see, four times a second.

import { h } from "./dom.js";
import type { Presenter } from "./present.js";
import type { Session } from "./session.js";
import { STAGES, type Stage } from "./stats.js";
import { snapshot } from "./surface.js";

const REFRESH = 250;
const NAMES: Record<Stage, string> = {
  handoff: "Capture", encode: "Encode", send: "Send", network: "Network", decode: "Decode", present: "Present", total: "Total",
};

export class Overlay {
  readonly element = h("aside", { class: "stats", hidden: true, "aria-label": "Statistics" });
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly session: Session, private readonly presenter: () => Presenter) {}

  toggle(): void {
    this.element.hidden = !this.element.hidden;
    clearInterval(this.timer);
    if (this.element.hidden) return;
    this.timer = setInterval(() => this.draw(), REFRESH);
    this.draw();
  }

  dispose(): void { clearInterval(this.timer); }

  private draw(): void {
    const s = snapshot(this.session, this.presenter(), true);
    const ms = (v: number | null | undefined) => (v === null || v === undefined ? "–" : v.toFixed(v < 10 ? 1 : 0));
    const pair = (x: { p50: number; p95: number } | null) => [ms(x?.p50), ms(x?.p95)];
    const row = (name: string, ...cells: string[]) => h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((c) => h("td", cells.length === 1 ? { colspan: 2 } : {}, c)));
    const max = Math.max(1, ...STAGES.slice(0, -1).map((k) => s.stages[k]?.p50 ?? 0));
    const stage = (k: Stage) => {
      const r = row(NAMES[k], ...pair(s.stages[k]));
      if (k !== "total") {
        const fill = h("i", {});
        fill.style.width = `${Math.round((100 * (s.stages[k]?.p50 ?? 0)) / max)}%`;
        r.firstElementChild!.append(h("span", { class: "meter", "aria-hidden": "true" }, fill));
      }
      return r;
    };
    this.element.replaceChildren(
      h("table", {}, h("tbody", {},
        row("Picture", `${s.width}×${s.height}`),
        row("Rate", `${s.fps} fps`, `${(s.kbps / 1000).toFixed(1)} Mbit/s`),
        row("Target", s.host ? `${s.host.fps} fps` : "–", s.host ? `${(s.host.targetKbps / 1000).toFixed(1)} Mbit/s` : "–"),
        row("Round trip", `${ms(s.rtt)} ms`),
        row("Path", s.relay ? `relay ${s.relay}` : s.path || "–"),
        row("Encoder", s.host?.encoder || s.codec || "–"),
        row("Capture", s.host?.capture || "–"),
        row("Lost / skipped", `${s.lost} / ${s.host?.skipped ?? 0}`))),
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Latency, ms"), h("th", { scope: "col" }, "p50"), h("th", { scope: "col" }, "p95"))),
        h("tbody", {}, ...STAGES.map(stage), row("Input to picture", ...pair(s.inputToPresent)))),
    );
  }
}
