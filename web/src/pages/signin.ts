// Sign-in: name and password, the second factor when the account has one, the identity provider's button, and the first
// visit with a one-time link that still needs a password or a code.

import { Refused, api, type Info, type Me, type SignIn } from "../api.js";
import { field, h, logo, values } from "../dom.js";
import { MIN_PASSWORD } from "./account.js";
import { sentence } from "../texts.js";

/** needs is what the gateway asked for when the link was tried: the reason of its refusal. */
export function signInPage(info: Info, message: string, link: SignIn, needs: string, done: (me: Me) => void): HTMLElement {
  const problem = h("p", { class: "problem", role: "alert" }, message);
  const body = h("div", {});
  const card = h("div", { class: "card signin" }, logo(44), h("h1", {}, "Wavry"), problem, body);

  const submit = async (form: HTMLFormElement, more: SignIn) => {
    const button = form.querySelector<HTMLButtonElement>("button.primary")!;
    button.disabled = true;
    problem.textContent = "";
    const secrets = { ...more, ...values(form) } as SignIn;
    try {
      done(await api.signIn(secrets));
    } catch (e) {
      button.disabled = false;
      if (e instanceof Refused && e.reason === "totp_required") return askCode(secrets);
      problem.textContent = sentence((e as Error).message);
      form.querySelector<HTMLInputElement>("input")?.select();
    }
  };
  const form = (text: string, more: SignIn, ...fields: HTMLElement[]) => {
    const f: HTMLFormElement = h("form", { onsubmit: (e) => { e.preventDefault(); void submit(f, more); } },
      ...fields, h("button", { class: "primary wide" }, text));
    body.replaceChildren(f);
    setTimeout(() => f.querySelector<HTMLInputElement>("input")?.focus());
    return f;
  };
  const askCode = (so: SignIn) => {
    const code = field({ name: "totp", label: "Code of your authenticator, or a recovery code", required: true, autocomplete: "one-time-code" });
    code.querySelector("input")!.setAttribute("inputmode", "text");
    form("Continue", { ...so, totp: "" }, code);
    body.append(h("button", { class: "quiet wide", onclick: () => (so.link && so.password ? askNewPassword() : askName()) }, "Start again"));
  };
  const askNewPassword = () => {
    form("Set password and sign in", link,
      h("p", {}, "Choose the password that you will sign in with from now on."),
      field({ name: "password", label: "New password", type: "password", required: true, autocomplete: "new-password", hint: `At least ${MIN_PASSWORD} characters.` }));
  };
  const askName = () => {
    form("Sign in", {},
      field({ name: "name", label: "Name", required: true, autocomplete: "username" }),
      field({ name: "password", label: "Password", type: "password", required: true, autocomplete: "current-password" }));
    if (info.oidc) body.append(h("div", { class: "or" }, "or"), h("a", { class: "button wide", href: "/v1/oidc/start" }, info.oidc));
  };

  if (link.link && needs === "totp_required") {
    askCode(link);
  } else if (link.link) {
    card.querySelector("h1")!.textContent = "Welcome to Wavry";
    askNewPassword();
  } else if (info.accounts) {
    askName();
  } else {
    body.append(h("p", { class: "muted" }, "Open the one-time link that the host printed. Each link signs in once; the host prints a new one when it starts."));
  }
  return h("main", { class: "center" }, card, info.version ? h("footer", { class: "muted" }, `Wavry Fleet ${info.version}`) : null);
}

/** A link came to a browser in which somebody else is signed in: whoever sent it may want them to work in an account not theirs. */
export function replacePage(message: string, stay: () => void, replace: () => void): HTMLElement {
  return h("main", { class: "center" }, h("div", { class: "card signin" }, logo(44), h("h1", {}, "You are signed in already"), h("p", {}, sentence(message)),
    h("button", { class: "primary wide", onclick: stay }, "Stay signed in"), h("button", { class: "quiet wide", onclick: replace }, "Use the link")));
}
