// The viewer page: stage, toolbar, state, statistics. It shows what Session tells and passes on what the person does.

import type { Connect } from "./api.js";
import { area, onRatio, type Area } from "./area.js";
import { Composer, EMPTY, type Typed } from "./compose.js";
import { CursorView } from "./cursor.js";
import { copy, h, icon, toast, type Icon } from "./dom.js";
import { Input } from "./input.js";
import { note } from "./notes.js";
import { Overlay } from "./overlay.js";
import { Presenter } from "./present.js";
import { Session, type State, type Status } from "./session.js";
import type { Signal } from "./signal.js";
import { publish } from "./surface.js";
import { ACTIONS, untypedText, watchedBy, watching, type Action } from "./texts.js";
import { Role, type Person, type Welcome } from "./wire.js";

export interface ViewerConfig {
  signal: Signal;
  connect: Connect;
  title: string;
  takeBack?: string;
  /** The viewer's session, for events of the gateway; null when it ends. */
  onSession(s: Session | null): void;
  leave(): void;
  /** The same desktop again; with a session's id, that session. */
  again(takeBack?: string): void;
  signIn(): void;
}

/** The toolbar hides when nothing moved near it for this long (ms). */
const TOOLBAR_STAYS = 3_000;
/** The desktop follows the window when it has kept its size for this long (ms). */
const RESIZE_SETTLES = 250;

export class Viewer {
  readonly element: HTMLElement;
  private readonly end = new AbortController();
  private readonly canvas = h("canvas", { width: 16, height: 9, "aria-label": "The desktop's picture" });
  private readonly cursorElement = h("div", { class: "cursor", hidden: true, "aria-hidden": "true" });
  private readonly stage: HTMLElement;
  private readonly veil = h("div", { class: "veil", role: "status", "aria-live": "polite" });
  private readonly notice = h("div", { class: "notice", role: "status", hidden: true });
  private readonly watchers = h("div", { class: "watchers", role: "status", "aria-live": "polite", hidden: true });
  private readonly bar: HTMLElement;
  private readonly typing = h("textarea", { class: "typing", "aria-label": "Text for the desktop", autocapitalize: "off", autocomplete: "off", spellcheck: "false" });
  private readonly session: Session;
  private readonly input: Input;
  private readonly cursor: CursorView;
  private readonly overlay: Overlay;
  private presenter!: Presenter;
  private oneToOne = localStorage.getItem("wavry.scale") === "1:1";
  private barTimer: ReturnType<typeof setTimeout> | undefined;
  private resizeTimer: ReturnType<typeof setTimeout> | undefined;
  private toldArea = "";
  private readonly composer = new Composer();
  private control = false;
  private owner = "";

  constructor(private readonly cfg: ViewerConfig) {
    this.stage = h("div", { class: "stage", tabindex: 0, role: "application", "aria-label": `${cfg.title}, remote desktop` }, this.canvas, this.cursorElement);
    this.bar = this.toolbar();
    this.input = new Input(this.stage, this.canvas, (e) => this.shortcut(e));
    this.cursor = new CursorView(this.stage, this.cursorElement, this.canvas);
    this.session = this.newSession();
    this.overlay = new Overlay(this.session, () => this.presenter);
    this.element = h("main", { class: "viewer" }, this.stage, this.overlay.element, this.watchers, this.notice, this.veil, this.bar, this.typing);
  }

  /** Connects. The element must be in the page. */
  start(): void {
    const signal = this.end.signal;
    this.input.listen(signal);
    const on = (t: EventTarget, type: string, f: (e: Event) => void) => t.addEventListener(type, f, { signal });
    on(window, "resize", () => this.laidOut());
    on(window, "pagehide", () => this.session.leave("the page was closed"));
    on(window, "pointermove", (e) => this.revealNear(e as PointerEvent));
    on(document, "pointerlockchange", () => this.pointerLockChanged());
    on(document, "fullscreenchange", () => this.fullscreenChanged());
    on(document, "visibilitychange", () => this.session.setHidden(document.hidden));
    onRatio(signal, () => this.laidOut());
    on(this.typing, "compositionstart", () => this.composer.start());
    on(this.typing, "compositionend", () => this.typed(this.composer.end(this.typing.value)));
    on(this.typing, "input", (e) => this.typed(this.composer.input(this.typing.value, (e as InputEvent).inputType ?? "", (e as InputEvent).isComposing ?? false)));
    on(this.typing, "keydown", (e) => this.typedKey(e as KeyboardEvent));
    this.typing.value = EMPTY;
    publish(this.session, () => this.presenter);
    this.cfg.onSession(this.session);
    this.showBar();
    this.layout();
    void this.session.start();
  }

  /** Leaves the session and stops listening. */
  dispose(): void {
    this.session.leave("left");
    this.end.abort();
    this.overlay.dispose();
    clearTimeout(this.barTimer);
    clearTimeout(this.resizeTimer);
    this.cfg.onSession(null);
    publish(null, null);
    if (document.fullscreenElement) void document.exitFullscreen().catch(() => undefined);
    if (document.pointerLockElement) document.exitPointerLock();
  }

  private newSession(): Session {
    return new Session({
      signal: this.cfg.signal,
      connect: this.cfg.connect,
      takeBack: this.cfg.takeBack,
      presenter: (presented) => (this.presenter = new Presenter(this.canvas, presented, () => this.layout())),
      input: this.input,
      size: () => this.tellArea(),
      onStatus: (s) => this.status(s),
      onWelcome: (w) => this.welcome(w),
      onCursor: (c) => this.cursor.update(c),
      onPeople: (others) => this.people(others),
      onUntyped: (u) => toast(untypedText(u.text, u.reason), "bad"),
      onNotice: (t) => this.setNotice(t),
      onNote: note,
    });
  }

  // Size.

  private area(): Area {
    return area(this.stage.clientWidth, this.stage.clientHeight, window.devicePixelRatio);
  }

  /** The area, which the host is about to be told. */
  private tellArea(): Area {
    const a = this.area();
    this.toldArea = JSON.stringify(a);
    return a;
  }

  private laidOut(): void {
    this.layout();
    clearTimeout(this.resizeTimer);
    this.resizeTimer = setTimeout(() => {
      if (JSON.stringify(this.area()) !== this.toldArea) this.session.resize();
    }, RESIZE_SETTLES);
  }

  /** Fits the picture into the stage, or shows each of its pixels as one of the screen's. */
  private layout(): void {
    const p = this.presenter;
    if (!p.width) return;
    const dpr = window.devicePixelRatio || 1;
    const fit = Math.min(this.stage.clientWidth / p.width, this.stage.clientHeight / p.height);
    // Within two pixels of one to one it is meant to be one to one: a resample would only blur.
    const near = Math.abs(p.width * fit * dpr - p.width) <= 2;
    const k = this.oneToOne || near ? 1 / dpr : fit;
    this.canvas.style.width = `${p.width * k}px`;
    this.canvas.style.height = `${p.height * k}px`;
    this.stage.classList.toggle("scrolls", this.oneToOne && (p.width * k > this.stage.clientWidth || p.height * k > this.stage.clientHeight));
    this.cursor.rescale();
  }

  // What the session tells.

  private welcome(w: Welcome): void {
    this.laidOut(); // it may have changed since hello
    this.control = w.input && w.role === 1;
    this.element.classList.toggle("watching", !this.control);
    this.pointerLockChanged();
    this.stage.focus({ preventScroll: true });
  }

  /** Nobody is watched without seeing it: the names stay on the screen for as long as anybody watches. */
  private people(others: Person[]): void {
    const watchers = others.filter((p) => p.role !== Role.control).map((p) => p.name);
    this.owner = others.find((p) => p.role === Role.control)?.name ?? "";
    this.watchers.replaceChildren(icon("eye"), watchedBy(watchers));
    this.watchers.hidden = watchers.length === 0;
    this.tellState(this.session.state);
  }

  private tellState(state: State): void {
    this.bar.querySelector(".status")!.textContent = state === "live" ? (this.control ? "Live" : watching(this.owner)) : state === "reconnecting" ? "Reconnecting" : state === "connecting" ? "Connecting" : "Ended";
  }

  private status(s: Status): void {
    this.element.dataset["state"] = s.state;
    this.tellState(s.state);
    if (s.ending) this.watchers.hidden = true;
    if (s.state === "live") {
      this.veil.hidden = true;
      this.setNotice("");
      return this.showBar();
    }
    this.veil.hidden = false;
    this.veil.replaceChildren(s.ending ? this.card(s.ending.title, s.ending.text, s.ending.action) : this.progress(s.text));
    if (s.ending && document.pointerLockElement) document.exitPointerLock();
    if (s.ending) this.veil.querySelector<HTMLElement>("button")?.focus();
  }

  private progress(text: string): HTMLElement {
    return h("div", { class: "progress" }, h("div", { class: "spinner", "aria-hidden": "true" }), h("p", {}, text),
      h("button", { class: "quiet", onclick: () => this.cfg.leave() }, "Cancel"));
  }

  private card(title: string, text: string, action: Action): HTMLElement {
    const id = this.session.id;
    const acts: Record<Action, () => void> = {
      again: () => this.cfg.again(), takeBack: () => this.cfg.again(id), list: () => this.cfg.leave(),
      reload: () => location.reload(), signIn: () => this.cfg.signIn(), none: () => undefined,
    };
    return h("div", { class: "card ending" }, h("h1", {}, title), h("p", {}, text),
      h("div", { class: "row" },
        action !== "none" && h("button", { class: "primary", onclick: acts[action] }, ACTIONS[action]),
        action !== "list" && h("button", { onclick: () => this.cfg.leave() }, ACTIONS.list)));
  }

  private setNotice(text: string): void {
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  // Toolbar.

  private toolbar(): HTMLElement {
    const b = (name: Icon, label: string, act: () => void, extra: Record<string, string> = {}) =>
      h("button", { class: "tool", title: label, "aria-label": label, onclick: act, ...extra }, icon(name));
    const touch = matchMedia("(any-pointer: coarse)").matches;
    const bar = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Session" },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("span", { class: "title" }, this.cfg.title), h("span", { class: "status" }, "Connecting"),
      b("fullscreen", "Full screen", () => void this.fullscreen()),
      b("fit", "Fit to the window or one to one", () => this.toggleScale()),
      b("pointer", "Capture the pointer (Esc frees it)", () => void this.lockPointer(), { "data-tool": "pointer" }),
      touch && b("keyboard", "On-screen keyboard", () => this.typing.focus()),
      b("stats", "Statistics (Ctrl+Alt+Shift+S)", () => this.overlay.toggle()),
      b("link", "Copy a link to watch", () => void this.copyLink()),
      b("leave", "Leave", () => this.cfg.leave()));
    const handle = h("button", { class: "handle", "aria-label": "Show the toolbar (Ctrl+Alt+Shift+M)", onclick: () => this.showBar(), onpointerenter: () => this.showBar() });
    return h("div", { class: "bar" }, bar, handle);
  }

  private showBar(): void {
    this.bar.classList.add("open");
    clearTimeout(this.barTimer);
    this.barTimer = setTimeout(() => {
      if (this.session.state !== "live" || this.bar.matches(":hover") || this.bar.contains(document.activeElement)) return this.showBar();
      this.bar.classList.remove("open");
    }, TOOLBAR_STAYS);
  }

  private revealNear(e: PointerEvent): void {
    if (!document.pointerLockElement && e.clientY < 3 && e.buttons === 0) this.showBar();
  }

  /** Ctrl+Alt+Shift and a letter belong to the page: those without a pointer need a way out of the desktop. */
  private shortcut(e: KeyboardEvent): boolean {
    if (!(e.ctrlKey && e.altKey && e.shiftKey)) return false;
    const acts: Record<string, () => void> = {
      KeyS: () => this.overlay.toggle(),
      KeyF: () => void this.fullscreen(),
      KeyM: () => { this.showBar(); this.bar.querySelector<HTMLElement>(".tool")?.focus(); },
      KeyP: () => void this.lockPointer(),
    };
    const act = acts[e.code];
    if (!act) return false;
    e.preventDefault();
    if (e.type === "keydown" && !e.repeat) {
      this.input.releaseAll();
      act();
    }
    return true;
  }

  private async fullscreen(): Promise<void> {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else await this.element.requestFullscreen({ navigationUI: "hide" });
    } catch {
      toast("This browser does not allow full screen here.", "bad");
    }
    this.stage.focus({ preventScroll: true });
  }

  /** In full screen the browser can hand us the keys it keeps otherwise: Esc, Alt+Tab, Super. */
  private fullscreenChanged(): void {
    const keyboard = (navigator as unknown as { keyboard?: { lock?(): Promise<void>; unlock?(): void } }).keyboard;
    if (document.fullscreenElement) keyboard?.lock?.().then(() => toast("Hold Esc to leave full screen."), () => undefined);
    else keyboard?.unlock?.();
    this.laidOut();
  }

  private toggleScale(): void {
    this.oneToOne = !this.oneToOne;
    localStorage.setItem("wavry.scale", this.oneToOne ? "1:1" : "fit");
    this.layout();
    toast(this.oneToOne ? "One to one." : "Fits the window.");
    this.stage.focus({ preventScroll: true });
  }

  private async lockPointer(): Promise<void> {
    if (!this.control) return toast("You are watching: somebody else is in control.");
    const request = (o?: object) => (this.stage.requestPointerLock as (o?: object) => Promise<void> | undefined).call(this.stage, o);
    this.stage.focus({ preventScroll: true });
    try {
      await request({ unadjustedMovement: true });
    } catch {
      // Not every platform gives unaccelerated motion.
      await Promise.resolve(request()).catch(() => toast("This browser does not allow capturing the pointer now.", "bad"));
    }
  }

  private pointerLockChanged(): void {
    const locked = document.pointerLockElement === this.stage;
    if (!locked) this.input.releaseAll();
    this.cursor.setOverlay(locked || !this.control);
    if (locked) this.bar.classList.remove("open");
  }

  private async copyLink(): Promise<void> {
    if (!this.session.id) return toast("There is no session yet.", "bad");
    await copy(`${location.origin}${location.pathname}#/watch/${encodeURIComponent(this.session.id)}`, "Link to watch");
    this.stage.focus({ preventScroll: true });
  }

  // On-screen keyboards give text, not keys.

  private typed(t: Typed): void {
    if (t.text) this.input.type(t.text);
    if (t.tap) this.input.tap(t.tap);
    if (t.reset) this.typing.value = EMPTY;
  }

  private typedKey(e: KeyboardEvent): void {
    // 229 is what a key of an input method has everywhere.
    const code = this.composer.key(e.key, e.isComposing || e.keyCode === 229);
    if (code === null) return;
    e.preventDefault();
    this.input.tap(code);
  }
}
