// The gateway's HTTP/JSON endpoints: gateway/signalapi in TypeScript. Byte fields are base64, times RFC 3339.

export interface SignIn { link?: string; name?: string; password?: string; totp?: string; replace?: boolean }
export interface Info { version: string; accounts: boolean; oidc?: string }
/** What a change of the second factor asks for; the password where the account has one. */
export interface Proof { code: string; password?: string }
export interface Me { name: string; role: string; admin: boolean; accounts: boolean; totp: boolean; password: boolean }
export interface Desktop {
  pool: string; title: string; compositor: string; encoder: string; free: number; slots: number; reason?: string;
}
export interface TOTPSetup { secret: string; uri: string; qr: string }
export interface RecoveryCodes { codes: string[] }
export interface Login {
  id: string; created_at: string; seen_at: string; expires_at: string; address: string; agent: string; method: string; current: boolean;
}
export interface User {
  id: string; name: string; role: string; disabled: boolean; totp: boolean; password: boolean; oidc: boolean;
  created_at: string; last_sign_in?: string;
}
export interface Invite { user: User; url: string; expires_at: string }
export interface PendingInvite { id: string; kind: string; user: string; created_by: string; created_at: string; expires_at: string }
export interface Ban { id: string; user?: string; address?: string; reason: string; actor: string; created_at: string; expires_at?: string }
export interface Rule { id?: string; pool: string; role?: string; user?: string; effect: string }
export interface Pool { pool: string; title: string }
export interface AuditEntry { id: number; at: string; actor: string; address?: string; act: string; subject: string; detail?: string }
export interface AdminSession {
  id: string; user: string; pool: string; host: string; relay?: string; state: string; viewers: number; started_at: string; expires_at: string;
}
export interface HostInfo {
  id: string; pool: string; region: string; state: string; health: string; reason?: string; compositor?: string; capture?: string;
  encoder?: string; slots: number; used: number; since?: string;
}
export interface RelayInfo {
  id: string; region: string; address: string; state: string; health: string; reason?: string; actor?: string; since?: string;
  capacity: number; circuits: number; score: number;
}
export interface KeyInfo { id: string; state: string; created_at: string; signs_from?: string; ends_at?: string; leases: number }

// Signaling.
export interface Connect { pool: string; width?: number; height?: number; force_relay?: boolean; join?: string; key?: string }
export interface Candidate { kind: string; priority: number; url: string; relay?: string }
export interface Certificate { hashes: string[]; expiry: string; signature: string }
export interface Grant {
  session: string; viewer: string; role: string; host: { id: string; identity: string };
  candidates: Candidate[]; certificate: Certificate; lease_expiry: string; grace_seconds: number;
}
export interface Renewed { token: string; lease_expiry: string }
export interface SessionEvent {
  kind: string; session: string; viewer?: string; reason?: string; message?: string; pool?: string; grant?: Grant; renewed?: Renewed;
}
export interface Resumed { alive: string[] | null; ended?: SessionEvent[] }
export interface Report { session: string; outcome: string; path?: string; relay?: string; setup_ms?: number }
export interface Refusal { reason: string; message: string; retry_seconds?: number }

/** Refused is every "no" of the gateway: reason for machines, message for people. */
export class Refused extends Error {
  constructor(readonly reason: string, message: string, readonly retrySeconds = 0, readonly status = 0) {
    super(message);
    this.name = "Refused";
  }
}

const CSRF_HEADER = "X-Wavry-Csrf";

/** Calls one endpoint. Throws Refused, also when the gateway cannot be reached (reason "unreachable"). */
export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method, credentials: "same-origin", cache: "no-store", headers: { Accept: "application/json" } };
  if (method !== "GET") init.headers = { ...init.headers, [CSRF_HEADER]: "1", "Content-Type": "application/json" };
  if (body !== undefined) init.body = JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new Refused("unreachable", "The gateway cannot be reached. Check your network; this page tries again by itself.", 2);
  }
  const text = await response.text();
  if (response.ok) return (text ? JSON.parse(text) : undefined) as T;
  throw refusal(response.status, text);
}

function refusal(status: number, text: string): Refused {
  try {
    const r = JSON.parse(text) as Partial<Refusal>;
    if (r.reason) return new Refused(r.reason, r.message || r.reason, r.retry_seconds ?? 0, status);
  } catch {
    // Not JSON: a proxy answered, not the gateway.
  }
  return new Refused("http", `The gateway answered ${status}. Try again; if it stays, tell your operator.`, 0, status);
}

export const api = {
  info: () => call<Info>("GET", "/v1/info"),
  me: () => call<Me>("GET", "/v1/me"),
  signIn: (s: SignIn) => call<Me>("POST", "/v1/signin", s),
  signOut: () => call<void>("POST", "/v1/signout"),
  desktops: () => call<Desktop[] | null>("GET", "/v1/desktops").then((d) => d ?? []),
  password: (change: { old?: string; new: string }) => call<void>("POST", "/v1/account/password", change),
  totpBegin: () => call<TOTPSetup>("POST", "/v1/account/totp"),
  totpConfirm: (p: Proof) => call<RecoveryCodes>("POST", "/v1/account/totp/confirm", p),
  totpDisable: (p: Proof) => call<void>("POST", "/v1/account/totp/disable", p),
  recoveryCodes: (p: Proof) => call<RecoveryCodes>("POST", "/v1/account/recovery", p),
  logins: () => call<Login[] | null>("GET", "/v1/account/logins").then((l) => l ?? []),
  endLogin: (id: string) => call<void>("DELETE", `/v1/account/logins/${encodeURIComponent(id)}`),
  /** An admin list: users, invites, bans, rules, pools, sessions, hosts, relays, keys. */
  list: <T>(what: string) => call<T[] | null>("GET", `/v1/admin/${what}`).then((l) => l ?? []),
  audit: (before?: number) => call<AuditEntry[] | null>("GET", `/v1/admin/audit?limit=100${before ? `&before=${before}` : ""}`).then((l) => l ?? []),
  act: <T>(method: string, path: string, body?: unknown) => call<T>(method, `/v1/admin/${path}`, body),
};

export function base64(s: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
}
