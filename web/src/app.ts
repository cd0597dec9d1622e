// The web app: who is signed in, which page is shown, and the one signaling socket. Pages are functions that build an element.
//
// Addresses are fragments, so that the server serves one file: #/ the desktops, #/desktop/<pool>, #/watch/<session>, #/account,
// #/admin/<tab>. #link=<token> is a one-time link, #link=<token>&to=/desktop/<pool> one that leads somewhere; it is taken out of the
// address bar before anything else.

import { Refused, api, type Info, type Me, type SignIn } from "./api.js";
import { h, icon, logo, toast } from "./dom.js";
import { note } from "./notes.js";
import { accountPage } from "./pages/account.js";
import { adminPage } from "./pages/admin.js";
import { desktopsPage, rememberTitles, titleOf } from "./pages/desktops.js";
import { replacePage, signInPage } from "./pages/signin.js";
import type { Session } from "./session.js";
import { forgetPageKey, pageKey } from "./proof.js";
import { Signal, type Socket } from "./signal.js";
import "./surface.js";
import { decodable } from "./decode.js";
import { missing, sentence } from "./texts.js";
import { Viewer } from "./viewer.js";

const LINK = "#link=";
const OIDC_ERROR = "#oidc_error=";

class App {
  me: Me | null = null;
  info: Info = { version: "", accounts: true };
  private signal: Signal | null = null;
  private session: Session | null = null;
  private dispose: (() => void) | null = null;
  private takeBack: string | undefined;

  async start(): Promise<void> {
    window.addEventListener("hashchange", () => void this.arrived());
    // A page that the browser kept and shows again has said its goodbyes already.
    window.addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });
    pageKey().catch(() => undefined); // ready by the time that a desktop is asked for
    await this.arrived();
  }

  /** Shows what the address says. */
  private async arrived(): Promise<void> {
    const hash = location.hash;
    if (hash.startsWith(LINK)) {
      history.replaceState(null, "", location.pathname);
      const [link = "", to = ""] = hash.slice(LINK.length).split("&to=", 2);
      return this.useLink(decodeURIComponent(link), decodeURIComponent(to));
    }
    if (hash.startsWith(OIDC_ERROR)) {
      history.replaceState(null, "", location.pathname);
      return this.showSignIn(sentence(decodeURIComponent(hash.slice(OIDC_ERROR.length).replace(/\+/g, " "))));
    }
    if (!this.me && !(await this.whoAmI())) return;
    this.route();
  }

  private async whoAmI(): Promise<boolean> {
    try {
      this.me = await api.me();
      return true;
    } catch (e) {
      await this.showSignIn(e instanceof Refused && e.status !== 401 ? e.message : "");
      return false;
    }
  }

  private async useLink(link: string, to: string, replace = false): Promise<void> {
    this.page(h("div", { class: "center" }, h("div", { class: "progress" }, h("div", { class: "spinner" }), h("p", {}, "Signing in"))));
    try {
      const me = await api.signIn({ link, replace });
      // The first admin needs a password before the login of the link ends.
      if (to.startsWith("/")) history.replaceState(null, "", `#${to}`);
      else if (me.accounts && !me.password) history.replaceState(null, "", "#/account");
      await this.signedIn(me);
    } catch (e) {
      if (e instanceof Refused && e.reason === "signed_in") {
        return this.page(replacePage(e.message, () => void this.arrived(), () => void this.useLink(link, to, true)));
      }
      if (e instanceof Refused && (e.reason === "password_needed" || e.reason === "totp_required")) {
        if (to.startsWith("/")) history.replaceState(null, "", `#${to}`);
        return this.showSignIn("", { link, replace }, e.reason);
      }
      await this.showSignIn((e as Error).message);
    }
  }

  async signedIn(me: Me): Promise<void> {
    this.me = me;
    // In standalone mode there is usually one desktop, and the person came for it.
    if (!me.accounts && (location.hash === "" || location.hash === "#/")) {
      const desktops = await api.desktops().catch(() => []);
      rememberTitles(desktops);
      if (desktops.length === 1 && !desktops[0]!.reason) {
        history.replaceState(null, "", `#/desktop/${encodeURIComponent(desktops[0]!.pool)}`);
      }
    }
    this.route();
  }

  private async showSignIn(message: string, link: SignIn = {}, needs = ""): Promise<void> {
    this.me = null;
    this.signal?.stop();
    this.signal = null;
    this.info = await api.info().catch(() => this.info);
    this.page(signInPage(this.info, message, link, needs, (me) => void this.signedIn(me)));
  }

  async signOut(): Promise<void> {
    await api.signOut().catch(() => undefined); // the cookie is gone, or the gateway is: signed out either way
    await forgetPageKey();
    history.replaceState(null, "", location.pathname);
    await this.showSignIn("");
  }

  /** What went wrong with a call, told where it belongs: signed out, or a line at the bottom. */
  readonly problem = (e: unknown): void => {
    if (e instanceof Refused && (e.status === 401 || e.reason === "not_signed_in")) return void this.showSignIn("You were signed out. Sign in again.");
    toast(sentence(e instanceof Error ? e.message : String(e)), "bad");
  };

  private route(): void {
    const [, name = "", arg = ""] = location.hash.split("/");
    const value = decodeURIComponent(arg);
    if (name === "desktop" && value) return void this.view({ pool: value }, value);
    if (name === "watch" && value) return void this.view({ pool: "", join: value }, "Watching");
    const me = this.me!;
    if (name === "account") return this.framed(name, accountPage(me, this.problem, () => void this.refreshMe()));
    if (name === "admin" && me.admin) return this.framed(name, adminPage(me, value, this.problem));
    const page = desktopsPage(this.problem);
    this.framed("", page.element, page.dispose);
  }

  private async refreshMe(): Promise<void> {
    this.me = await api.me().catch(() => this.me);
    this.route();
  }

  private async view(connect: { pool: string; join?: string }, name: string): Promise<void> {
    const lacks = await missing(decodable);
    if (lacks.length > 0) return this.page(lacking(lacks));
    const title = titleOf(connect.pool) || name;
    const query = new URLSearchParams(location.search);
    const takeBack = this.takeBack;
    this.takeBack = undefined;
    const viewer = new Viewer({
      signal: this.signaling(),
      connect: { ...connect, ...(query.has("relay") ? { force_relay: true } : {}) },
      title,
      takeBack,
      onSession: (s) => { this.session = s; },
      leave: () => { location.hash = "#/"; },
      again: (session) => {
        this.takeBack = session;
        this.route();
      },
      signIn: () => void this.showSignIn(""),
    });
    this.page(viewer.element, () => viewer.dispose());
    document.title = `${title} · Wavry`;
    viewer.start();
  }

  private signaling(): Signal {
    this.signal ??= new Signal({
      open: () => new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/signal") as unknown as Socket,
      onEvent: (e) => this.session?.event(e),
      onState: (open) => note(open ? "signaling open" : "signaling lost"),
      onTrouble: (failures) => void this.signalTrouble(failures),
      random: Math.random,
    });
    this.signal.start();
    return this.signal;
  }

  /** A WebSocket does not tell why it was refused; a plain request does. A running stream stays as it is. */
  private async signalTrouble(failures: number): Promise<void> {
    note(`signaling cannot be reached, try ${failures}`);
    if (failures !== 2 || this.session?.state === "live") return;
    try {
      await api.me();
    } catch (e) {
      if (e instanceof Refused && e.status === 401) this.problem(e);
    }
  }

  private framed(active: string, content: HTMLElement, dispose?: () => void): void {
    const me = this.me!;
    const link = (href: string, text: string, name: string) => h("a", { href, "aria-current": active === name ? "page" : null }, text);
    const nav = h("header", { class: "top" },
      h("a", { href: "#/", class: "brand", "aria-label": "Wavry, desktops" }, logo(24), "Wavry"),
      h("nav", { "aria-label": "Pages" },
        link("#/", "Desktops", ""),
        me.accounts && link("#/account", "Account", "account"),
        me.accounts && me.admin && link("#/admin/sessions", "Admin", "admin")),
      h("span", { class: "who" }, me.name),
      h("button", { class: "quiet", onclick: () => void this.signOut(), title: "Sign out", "aria-label": "Sign out" }, icon("leave")));
    document.title = "Wavry";
    this.page(h("div", { class: "frame" }, nav, content), dispose);
  }

  private page(element: HTMLElement, dispose?: () => void): void {
    this.dispose?.();
    this.dispose = dispose ?? null;
    document.getElementById("app")!.replaceChildren(element);
  }
}

function lacking(lacks: string[]): HTMLElement {
  return h("main", { class: "center" }, h("div", { class: "card" }, logo(40), h("h1", {}, "This browser cannot show a desktop"),
    h("p", {}, "It lacks:"), h("ul", {}, ...lacks.map((l) => h("li", {}, sentence(l)))),
    h("p", {}, "Use a current Chrome, Edge or another Chromium browser, over https."),
    h("div", { class: "row" }, h("a", { class: "button", href: "#/" }, "Back to the desktops"))));
}

void new App().start();
