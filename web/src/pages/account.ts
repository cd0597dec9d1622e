// The account page: password, second factor, recovery codes, and where one is signed in.

import { Refused, api, type Login, type Me, type Proof } from "../api.js";
import { ask, copy, field, h, show, toast, values, when } from "../dom.js";

const CODE = { name: "code", label: "Code", required: true, autocomplete: "one-time-code" } as const;
const PRESENT = { name: "password", label: "Present password", type: "password", required: true, autocomplete: "current-password" } as const;

type Problem = (e: unknown) => void;

/** The gateway's rule; it is the one that decides. */
export const MIN_PASSWORD = 10;

export function accountPage(me: Me, problem: Problem, changed: () => void): HTMLElement {
  return h("main", { class: "page narrow" }, h("h1", {}, "Account"),
    h("p", { class: "muted" }, `You are ${me.name}, with the role ${me.role}.`),
    passwordSection(me, problem, changed), totpSection(me, problem, changed), loginsSection(problem));
}

function passwordSection(me: Me, problem: Problem, changed: () => void): HTMLElement {
  const form: HTMLFormElement = h("form", { onsubmit: (e) => { e.preventDefault(); void save(); } },
    me.password ? field({ name: "old", label: "Present password", type: "password", required: true, autocomplete: "current-password" })
      : h("p", {}, "You have none yet. Choose one, to sign in without a link."),
    field({ name: "new", label: "New password", type: "password", required: true, autocomplete: "new-password", hint: `At least ${MIN_PASSWORD} characters.` }),
    h("button", { class: "primary" }, me.password ? "Change password" : "Set password"));
  const save = async () => {
    const v = values(form);
    try {
      await api.password(v["old"] ? { old: v["old"], new: v["new"]! } : { new: v["new"]! });
      toast(me.password ? "Password changed. Other browsers are signed out." : "Password set.");
      changed();
    } catch (e) {
      // A wrong present password is no sign-out.
      if (e instanceof Refused && e.reason !== "not_signed_in") toast(e.message, "bad");
      else problem(e);
    }
  };
  return h("section", { class: "card" }, h("h2", {}, "Password"), form);
}

function totpSection(me: Me, problem: Problem, changed: () => void): HTMLElement {
  const tell = (e: unknown) => (e instanceof Refused && e.reason !== "not_signed_in" ? toast(e.message, "bad") : problem(e));
  const proof = (title: string, text: string, confirm: string) =>
    ask(title, text, me.password ? [CODE, PRESENT] : [CODE], confirm).then((v) => v as Proof | null);
  const enrol = async () => {
    try {
      const s = await api.totpBegin();
      const p = await enrolDialog(s.qr, s.secret, me.password);
      if (p === null) return;
      await showCodes((await api.totpConfirm(p)).codes);
      changed();
    } catch (e) {
      tell(e);
    }
  };
  const renew = async () => {
    const p = await proof("New recovery codes", "The old ones end.", "Make new codes");
    if (p === null) return;
    await api.recoveryCodes(p).then((r) => showCodes(r.codes), tell);
  };
  const disable = async () => {
    const p = await proof("Turn off two-step sign-in", "Your password alone will sign you in.", "Turn off");
    if (p === null) return;
    await api.totpDisable(p).then(changed, tell);
  };
  return h("section", { class: "card" }, h("h2", {}, "Two-step sign-in"),
    h("p", {}, me.totp ? "On. Signing in asks for a code of your authenticator." : "Off. With it, a stolen password alone is worth nothing."),
    h("div", { class: "row" }, ...(me.totp
      ? [h("button", { onclick: () => void renew() }, "New recovery codes"), h("button", { class: "danger", onclick: () => void disable() }, "Turn off")]
      : [h("button", { class: "primary", onclick: () => void enrol() }, "Set up")])));
}

function enrolDialog(qr: string, secret: string, password: boolean): Promise<Proof | null> {
  return new Promise((resolve) => {
    const form: HTMLFormElement = h("form", { method: "dialog" }, h("h2", {}, "Set up two-step sign-in"),
      h("p", {}, "Scan this with your authenticator, then enter the code it shows."),
      h("img", { class: "qr", src: `data:image/png;base64,${qr}`, alt: "QR code of the secret below", width: 200, height: 200 }),
      h("details", {}, h("summary", {}, "Cannot scan?"), h("p", { class: "mono wrap" }, secret.replace(/(.{4})/g, "$1 ").trim())),
      field(CODE), password ? field(PRESENT) : null,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), h("button", { class: "primary", value: "ok" }, "Turn on")));
    const dialog = h("dialog", { "aria-label": "Set up two-step sign-in" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "ok" ? (values(form) as unknown as Proof) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("input")?.focus();
  });
}

function showCodes(codes: string[]): Promise<void> {
  return show("Recovery codes",
    h("p", {}, "Each signs you in once when your authenticator is not at hand. They are not shown again: keep them somewhere safe."),
    h("ul", { class: "codes mono" }, ...codes.map((c) => h("li", {}, c))),
    h("button", { type: "button", onclick: () => void copy(codes.join("\n"), "Recovery codes") }, "Copy"));
}

function loginsSection(problem: Problem): HTMLElement {
  const list = h("ul", { class: "logins" });
  const load = () => api.logins().then((logins) => list.replaceChildren(...logins.map(row)), problem);
  const end = (l: Login) => api.endLogin(l.id).then(load, problem);
  const row = (l: Login) => h("li", {},
    h("div", {}, h("strong", {}, browser(l.agent)), l.current ? h("span", { class: "badge ok" }, "this one") : null,
      h("div", { class: "muted" }, `${l.address} · ${l.method} · `, when(l.seen_at))),
    l.current ? null : h("button", { onclick: () => void end(l) }, "Sign out"));
  void load();
  return h("section", { class: "card" }, h("h2", {}, "Signed in"), list);
}

/** "Chrome on Linux" out of a user agent. */
export function browser(agent: string): string {
  const name = /Edg\//.test(agent) ? "Edge" : /Firefox\//.test(agent) ? "Firefox" : /Chrom(e|ium)\//.test(agent) ? "Chrome" : /Safari\//.test(agent) ? "Safari" : "A browser";
  const os = /Windows/.test(agent) ? "Windows" : /Android/.test(agent) ? "Android" : /iPhone|iPad/.test(agent) ? "iOS" : /Mac OS/.test(agent) ? "macOS" : /CrOS/.test(agent) ? "ChromeOS" : /Linux/.test(agent) ? "Linux" : "";
  return os ? `${name} on ${os}` : name;
}
