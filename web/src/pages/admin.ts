// The admin page: lists with actions. What may be done is the gateway's decision; here is only what may be asked.

import {
  Refused, api, type AdminSession, type AuditEntry, type Ban, type HostInfo, type Invite, type KeyInfo, type Me, type PendingInvite, type Pool,
  type RelayInfo, type Rule, type User,
} from "../api.js";
import { ask, copy, h, show, toast, when, type Field } from "../dom.js";
import { sentence } from "../texts.js";

type Problem = (e: unknown) => void;
type Cell = Node | string | number | null | undefined | false;

interface Act<T> { label: string; danger?: boolean; if?(row: T): boolean; run(row: T): Promise<void> }
interface Table<T> { columns: [string, (row: T) => Cell][]; acts?: Act<T>[]; empty: string }
interface Tab { name: string; title: string; adminOnly?: boolean; build(t: Tools): HTMLElement }

/** What tabs need: telling problems, and drawing themselves again. */
interface Tools { admin: boolean; problem: Problem; onRefresh(f: () => void): void }

const REFRESH = 5_000;
const ROLES = ["viewer", "operator", "admin"];

export function adminPage(me: Me, active: string, problem: Problem): HTMLElement {
  const admin = me.role === "admin";
  const tabs = TABS.filter((t) => admin || !t.adminOnly);
  const tab = tabs.find((t) => t.name === active) ?? tabs[0]!;
  const nav = h("nav", { class: "tabs", "aria-label": "Admin" },
    ...tabs.map((t) => h("a", { href: `#/admin/${t.name}`, "aria-current": t === tab ? "page" : null }, t.title)));
  const page = h("main", { class: "page wide" }, h("h1", {}, "Admin"), nav);
  let refresh: () => void = () => undefined;
  const tools: Tools = { admin, problem: (e) => tell(e, problem), onRefresh: (f) => { refresh = f; } };
  page.append(tab.build(tools));
  const timer = setInterval(() => {
    if (!page.isConnected) return clearInterval(timer);
    if (!document.hidden && !document.querySelector("dialog[open]")) refresh();
  }, REFRESH);
  return page;
}

/** A refusal of one act is a line at the bottom; being signed out leaves the page. */
function tell(e: unknown, problem: Problem): void {
  if (e instanceof Refused && e.status !== 401) toast(sentence(e.message), "bad");
  else problem(e);
}

/** A table that loads itself and draws itself again after each act. */
function list<T>(t: Tools, load: () => Promise<T[]>, table: (reload: () => void) => Table<T>, ...above: Node[]): HTMLElement {
  const box = h("div", { class: "scroll" });
  let drawn = "", failed = false;
  const reload = () => void load().then(
    (rows) => {
      failed = false;
      const now = JSON.stringify(rows);
      if (now !== drawn) box.replaceChildren(render(rows, table(reload), t));
      drawn = now;
    },
    (e: unknown) => {
      if (!failed) t.problem(e);
      failed = true;
    },
  );
  t.onRefresh(reload);
  reload();
  return h("section", {}, ...above, box);
}

function render<T>(rows: T[], table: Table<T>, t: Tools): HTMLElement {
  if (rows.length === 0) return h("div", { class: "empty" }, table.empty);
  const acts = table.acts ?? [];
  return h("table", { class: "list" },
    h("thead", {}, h("tr", {}, ...table.columns.map(([name]) => h("th", { scope: "col" }, name)), acts.length > 0 && h("th", {}, h("span", { class: "hidden" }, "Actions")))),
    h("tbody", {}, ...rows.map((row) => h("tr", {},
      ...table.columns.map(([name, cell]) => h("td", { "data-label": name }, content(cell(row)))),
      acts.length > 0 && h("td", { class: "acts" }, ...acts.filter((a) => a.if?.(row) ?? true).map((a) =>
        h("button", { class: a.danger ? "small danger" : "small", onclick: () => void a.run(row).catch(t.problem) }, a.label)))))));
}

function content(c: Cell): Node | string {
  return c instanceof Node ? c : c === null || c === undefined || c === false || c === "" ? "" : String(c);
}

const GOOD = new Set(["allow", "active", "passing", "signing", "running", "live", "ready"]);
const BAD = new Set(["banned", "quarantined", "critical", "revoked", "disabled", "lost", "deny"]);

function badge(text: string | undefined): Cell {
  if (!text) return "";
  const plain = text.replace(/^stale_/, "");
  return h("span", { class: `badge ${GOOD.has(plain) ? "ok" : BAD.has(plain) ? "bad" : "mid"}` }, text.replace(/_/g, " "));
}

/** "123456 ... " of ids that nobody types. */
function id(text: string): Cell {
  return h("button", { class: "id mono", title: `${text} (copy)`, onclick: () => void copy(text, "Id") }, text.length > 13 ? text.slice(0, 12) + "…" : text);
}

/** Asks why, then does it. */
async function because(title: string, text: string, confirm: string, danger: boolean, act: (reason: string) => Promise<unknown>, done: () => void): Promise<void> {
  const v = await ask(title, text, [{ name: "reason", label: "Reason", required: true, hint: "It goes into the audit log." }], confirm, danger);
  if (!v) return;
  await act(v["reason"]!);
  done();
}

const at = (...parts: string[]) => parts.map(encodeURIComponent).join("/");

function plus(label: string, run: () => Promise<void>, t: Tools): HTMLElement {
  return h("div", { class: "row end" }, h("button", { class: "primary", onclick: () => void run().catch(t.problem) }, label));
}

function showInvite(i: Invite): Promise<void> {
  return show(`Invite for ${i.user.name}`,
    h("p", {}, "Give this link to them, over a channel you trust. It works once and is not shown again. It ends ", when(i.expires_at), "."),
    h("p", { class: "mono wrap" }, i.url),
    h("button", { type: "button", onclick: () => void copy(i.url, "Link") }, "Copy"));
}

const sessions: Tab = {
  name: "sessions", title: "Sessions",
  build: (t) => list(t, () => api.list<AdminSession>("sessions"), (reload) => ({
    empty: "Nobody is connected.",
    columns: [
      ["Session", (s) => id(s.id)], ["User", (s) => s.user], ["Desktop", (s) => s.pool], ["Host", (s) => s.host], ["Path", (s) => (s.relay ? `relay ${s.relay}` : "direct")],
      ["State", (s) => badge(s.state)], ["Viewers", (s) => s.viewers], ["Started", (s) => when(s.started_at)], ["Lease ends", (s) => when(s.expires_at)],
    ],
    acts: [
      { label: "Watch", run: async (s) => { location.hash = `#/watch/${encodeURIComponent(s.id)}`; } },
      { label: "End", danger: true, run: (s) => because(`End the session of ${s.user}`, "They are told the reason.", "End session", true, (reason) => api.act("POST", at("sessions", s.id, "end"), { reason }), reload) },
    ],
  })),
};

const hosts: Tab = {
  name: "hosts", title: "Hosts",
  build: (t) => list(t, () => api.list<HostInfo>("hosts"), (reload) => ({
    empty: "No host has registered.",
    columns: [
      ["Host", (x) => x.id], ["Pool", (x) => x.pool], ["Region", (x) => x.region], ["State", (x) => badge(x.state)], ["Health", (x) => badge(x.health)],
      ["Slots", (x) => `${x.used} / ${x.slots}`], ["Desktop", (x) => x.compositor], ["Capture", (x) => x.capture], ["Encoder", (x) => x.encoder],
      ["Since", (x) => when(x.since)], ["Reason", (x) => x.reason],
    ],
    acts: [
      { label: "Drain", danger: true, if: (x) => x.state !== "draining" && x.state !== "drained", run: (x) => because(`Drain ${x.id}`, "It gets no new session; running ones go on.", "Drain", true, (reason) => api.act("POST", at("hosts", x.id, "drain"), { reason }), reload) },
      { label: "Activate", if: (x) => x.state !== "active", run: (x) => because(`Activate ${x.id}`, "", "Activate", false, (reason) => api.act("POST", at("hosts", x.id, "activate"), { reason }), reload) },
    ],
  })),
};

const RELAY_TEXT: Record<string, string> = {
  active: "It gets sessions again.", draining: "Its sessions move to other relays, then it leaves.",
  quarantined: "It gets no new session until somebody activates it.", banned: "It is not used any more.",
};

function relayAct(state: string, label: string, reload: () => void): Act<RelayInfo> {
  return {
    label, danger: state !== "active", if: (r) => r.state !== state,
    run: (r) => because(`${label} ${r.id}`, RELAY_TEXT[state]!, label, state !== "active", (reason) => api.act("POST", at("relays", r.id, "state"), { state, reason }), reload),
  };
}

const relays: Tab = {
  name: "relays", title: "Relays",
  build: (t) => list(t, () => api.list<RelayInfo>("relays"), (reload) => ({
    empty: "No relay has registered. Sessions go direct.",
    columns: [
      ["Relay", (r) => r.id], ["Region", (r) => r.region], ["Address", (r) => h("span", { class: "mono" }, r.address)], ["State", (r) => badge(r.state)], ["Health", (r) => badge(r.health)],
      ["Circuits", (r) => `${r.circuits} / ${r.capacity}`], ["Score", (r) => r.score.toFixed(2)], ["Since", (r) => when(r.since)],
      ["Reason", (r) => [r.reason, r.actor && `(${r.actor})`].filter(Boolean).join(" ")],
    ],
    acts: [relayAct("active", "Activate", reload), relayAct("draining", "Drain", reload), relayAct("quarantined", "Quarantine", reload), relayAct("banned", "Ban", reload)],
  })),
};

const keys: Tab = {
  name: "keys", title: "Keys",
  build: (t) => {
    let again: () => void = () => undefined;
    const rotate = () => because("Rotate the signing key", "The next key signs from now on. Leases that were signed before stay good.", "Rotate", false, (reason) => api.act("POST", "keys/rotate", { reason }), () => again());
    return list(t, () => api.list<KeyInfo>("keys"), (reload) => {
      again = reload;
      return {
        empty: "There is no signing key: no lease can be issued.",
        columns: [
          ["Key", (k) => id(k.id)], ["State", (k) => badge(k.state)], ["Created", (k) => when(k.created_at)], ["Signs from", (k) => when(k.signs_from)], ["Ends", (k) => when(k.ends_at)],
          ["Leases that need it", (k) => k.leases],
        ],
        acts: t.admin ? [{
          label: "Revoke", danger: true, if: (k) => k.state !== "revoked",
          run: (k) => because("Revoke this key", `${k.leases} running leases need it: their sessions end.`, "Revoke", true, (reason) => api.act("POST", at("keys", k.id, "revoke"), { reason }), reload),
        }] : [],
      };
    }, ...(t.admin ? [plus("Rotate", rotate, t)] : []));
  },
};

const users: Tab = {
  name: "users", title: "Users", adminOnly: true,
  build: (t) => {
    let again: () => void = () => undefined;
    const add = async () => {
      const v = await ask("Invite a person", "They get a one-time link and choose their password.", [{ name: "name", label: "Name", required: true }, { name: "role", label: "Role", options: ROLES }], "Invite");
      if (!v) return;
      await showInvite(await api.act<Invite>("POST", "users", { name: v["name"], role: v["role"] }));
      again();
    };
    return list(t, () => api.list<User>("users"), (reload) => {
      again = reload;
      return {
        empty: "No accounts.",
        columns: [
          ["Name", (u) => u.name], ["Role", (u) => u.role], ["State", (u) => badge(u.disabled ? "disabled" : u.password || u.oidc ? "active" : "invited")],
          ["Signs in with", (u) => [u.password && "password", u.totp && "code", u.oidc && "provider"].filter(Boolean).join(", ")],
          ["Created", (u) => when(u.created_at)], ["Last sign-in", (u) => when(u.last_sign_in)],
        ],
        acts: userActs(reload),
      };
    }, plus("Invite", add, t));
  },
};

function userActs(reload: () => void): Act<User>[] {
  const change = (u: User, c: object) => api.act("POST", at("users", u.id), c).then(reload);
  return [
    {
      label: "Role", run: async (u) => {
        const v = await ask(`Role of ${u.name}`, "", [{ name: "role", label: "Role", options: ROLES, value: u.role }], "Change");
        if (v) await change(u, { role: v["role"] });
      },
    },
    { label: "New link", run: async (u) => showInvite(await api.act<Invite>("POST", at("users", u.id, "invite"))) },
    { label: "Sign out", run: async (u) => { await api.act("POST", at("users", u.id, "signout")); toast(`${u.name} is signed out everywhere.`); } },
    {
      label: "Remove codes", danger: true, if: (u) => u.totp, run: async (u) => {
        if (await ask(`Turn off two-step sign-in of ${u.name}`, "Do this only when you know it is them who asks.", [], "Turn off", true)) await api.act("DELETE", at("users", u.id, "totp")).then(reload);
      },
    },
    { label: "Disable", danger: true, if: (u) => !u.disabled, run: async (u) => { if (await ask(`Disable ${u.name}`, "They are signed out and cannot sign in.", [], "Disable", true)) await change(u, { disabled: true }); } },
    { label: "Enable", if: (u) => u.disabled, run: (u) => change(u, { disabled: false }) },
  ];
}

const invites: Tab = {
  name: "invites", title: "Invites", adminOnly: true,
  build: (t) => list(t, () => api.list<PendingInvite>("invites"), (reload) => ({
    empty: "No open links.",
    columns: [["For", (i) => i.user], ["Kind", (i) => i.kind.replace(/_/g, " ")], ["By", (i) => i.created_by], ["Created", (i) => when(i.created_at)], ["Ends", (i) => when(i.expires_at)]],
    acts: [{ label: "Withdraw", danger: true, run: (i) => api.act("DELETE", at("invites", i.id)).then(reload) }],
  })),
};

const access: Tab = {
  name: "access", title: "Access", adminOnly: true,
  build: (t) => {
    const rules = list(t, () => api.list<Rule>("rules"), (reload) => ({
      empty: "No rules: everybody may use the gateway's open pools (open_pools), nobody the others.",
      columns: [["Desktops", (r) => h("span", { class: "mono" }, r.pool)], ["Effect", (r) => badge(r.effect)], ["For", (r) => (r.user ? `user ${r.user}` : r.role ? `every ${r.role}` : "everybody")]],
      acts: [{ label: "Remove", danger: true, run: (r) => api.act("DELETE", at("rules", r.id ?? "")).then(reload) }],
    }), h("div", { class: "row between" }, h("h2", {}, "Who may use what"),
      h("button", { class: "primary", onclick: () => void add().catch(t.problem) }, "Add a rule")));
    const pools = list({ ...t, onRefresh: () => undefined }, () => api.list<Pool>("pools"), (reload) => ({
      empty: "No pool is known yet.",
      columns: [["Pool", (p) => h("span", { class: "mono" }, p.pool)], ["Title", (p) => p.title]],
      acts: [{ label: "Rename", run: async (p) => {
        const v = await ask(`Title of ${p.pool}`, "", [{ name: "title", label: "Title", value: p.title, required: true }], "Save");
        if (v) await api.act("POST", "pools", { pool: p.pool, title: v["title"] }).then(reload);
      } }],
    }), h("h2", {}, "Titles"));
    const add = async () => {
      const fields: Field[] = [
        { name: "pool", label: "Pool", required: true, value: "*", hint: "A name, or a pattern with *." }, { name: "effect", label: "Effect", options: ["allow", "deny"] },
        { name: "role", label: "Role", options: ["", ...ROLES] }, { name: "user", label: "User", hint: "A name; empty for everybody of the role." },
      ];
      const v = await ask("Add a rule", "A deny wins over every allow.", fields, "Add");
      if (!v) return;
      await api.act("POST", "rules", { pool: v["pool"], effect: v["effect"], ...(v["role"] ? { role: v["role"] } : {}), ...(v["user"] ? { user: v["user"] } : {}) });
      window.dispatchEvent(new HashChangeEvent("hashchange"));
    };
    return h("div", { class: "stack" }, rules, pools);
  },
};

const bans: Tab = {
  name: "bans", title: "Bans", adminOnly: true,
  build: (t) => {
    let again: () => void = () => undefined;
    const add = async () => {
      const v = await ask("Ban", "Name an account or an address.", [
        { name: "user", label: "User" }, { name: "address", label: "Address", hint: "An IP address or a network such as 192.0.2.0/24." },
        { name: "hours", label: "Hours", type: "number", hint: "Empty: until it is lifted." }, { name: "reason", label: "Reason", required: true },
      ], "Ban", true);
      if (!v) return;
      const whom = v["user"] ? { user: v["user"] } : { address: v["address"] };
      await api.act("POST", "bans", { ...whom, reason: v["reason"], seconds: Math.round(Number(v["hours"] || 0) * 3600) });
      again();
    };
    return list(t, () => api.list<Ban>("bans"), (reload) => {
      again = reload;
      return {
        empty: "Nobody is banned.",
        columns: [["Who", (b) => b.user || h("span", { class: "mono" }, b.address ?? "")], ["Reason", (b) => b.reason], ["By", (b) => b.actor], ["Since", (b) => when(b.created_at)], ["Ends", (b) => when(b.expires_at) || "when lifted"]],
        acts: [{ label: "Lift", run: (b) => api.act("DELETE", at("bans", b.id)).then(reload) }],
      };
    }, plus("Ban", add, t));
  },
};

const audit: Tab = {
  name: "audit", title: "Audit",
  build: (t) => {
    const more = h("button", { onclick: () => void older().catch(t.problem) }, "Older");
    const table: Table<AuditEntry> = {
      empty: "Nothing has been done yet.",
      columns: [["When", (a) => when(a.at)], ["Who", (a) => a.actor], ["Act", (a) => a.act.replace(/[_.]/g, " ")], ["Subject", (a) => a.subject], ["Detail", (a) => a.detail], ["From", (a) => a.address]],
    };
    let rows: AuditEntry[] = [];
    const box = h("div", { class: "scroll" });
    const draw = (page: AuditEntry[]) => {
      rows = rows.concat(page);
      more.hidden = page.length < 100;
      box.replaceChildren(render(rows, table, t));
    };
    const older = async () => draw(await api.audit(rows.at(-1)?.id));
    older().catch(t.problem);
    return h("section", {}, box, h("div", { class: "row" }, more));
  },
};

const TABS: Tab[] = [sessions, users, invites, access, hosts, relays, keys, bans, audit];
