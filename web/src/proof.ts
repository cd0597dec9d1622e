// The page's key: what makes a session this page's own. The private half cannot be exported, not even by this page; it is kept in IndexedDB, so that a
// page that was reloaded is still the same viewer. A wish for a session carries the key's thumbprint, and on each connection the page signs
// what the host asks for. hostruntime/proof is the host's side; its page comment has the bytes.

import { encodeProof } from "./wire.js";

const LABEL = "wavry viewer proof v1\0";
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
const DATABASE = "wavry";
const STORE = "keys";
const ID = "viewer";

export class PageKey {
  private constructor(private readonly key: CryptoKey, private readonly point: Uint8Array<ArrayBuffer>, readonly thumbprint: string) {}

  /** The key of this browser, made when there is none. Where nothing can be kept it lasts as long as the page. */
  static async load(): Promise<PageKey> {
    const fresh = async () => (await crypto.subtle.generateKey(ALGORITHM, false, ["sign"])) as CryptoKeyPair;
    const pair = await kept().then(async (have) => have ?? keep(await fresh())).catch(fresh);
    const point = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    return new PageKey(pair.privateKey, point, await thumbprint(point));
  }

  /** The Proof message that answers a host's nonce. token is the one of the URL that was connected to. */
  async prove(nonce: Uint8Array, identity: Uint8Array, token: string): Promise<Uint8Array> {
    const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, this.key, await statement(nonce, identity, token));
    return encodeProof(this.point, new Uint8Array(signature));
  }
}

/** What is signed: proof.Statement. */
export async function statement(nonce: Uint8Array, identity: Uint8Array, token: string): Promise<Uint8Array<ArrayBuffer>> {
  const text = new TextEncoder(), label = text.encode(LABEL);
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", text.encode(token)));
  const b = new Uint8Array(label.length + nonce.length + identity.length + sum.length);
  let at = 0;
  for (const part of [label, nonce, identity, sum]) {
    b.set(part, at);
    at += part.length;
  }
  return b;
}

/** RFC 7638 of an uncompressed point: the SHA-256 of its JWK in base64url. */
export async function thumbprint(point: Uint8Array): Promise<string> {
  const jwk = `{"crv":"P-256","kty":"EC","x":"${base64url(point.subarray(1, 33))}","y":"${base64url(point.subarray(33))}"}`;
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(jwk))));
}

function base64url(b: Uint8Array): string {
  return btoa(String.fromCharCode(...b)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

let loading: Promise<PageKey> | null = null;

/** The key of this page; begins to load with the first call. */
export function pageKey(): Promise<PageKey> { return (loading ??= PageKey.load()); }

/** The person has signed out: whoever comes next is another viewer. */
export async function forgetPageKey(): Promise<void> {
  loading = null;
  await use("readwrite", (s) => s.delete(ID)).catch(() => undefined); // what could not be kept need not be forgotten
}

function kept(): Promise<CryptoKeyPair | undefined> {
  return use("readonly", (s) => s.get(ID) as IDBRequest<CryptoKeyPair | undefined>);
}

/** Keeps the pair, unless another tab was faster; returns the one that is kept. */
async function keep(pair: CryptoKeyPair): Promise<CryptoKeyPair> {
  await use("readwrite", (s) => s.add(pair, ID)).catch(() => undefined);
  return (await kept()) ?? pair;
}

/** One request in a transaction of its own. */
async function use<T>(mode: IDBTransactionMode, act: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await new Promise<IDBDatabase>((resolve, reject) => {
    const open = indexedDB.open(DATABASE, 1);
    open.onupgradeneeded = () => open.result.createObjectStore(STORE);
    open.onsuccess = () => resolve(open.result);
    open.onerror = () => reject(open.error ?? new Error("the database cannot be opened"));
  });
  try {
    return await new Promise<T>((resolve, reject) => {
      const request = act(db.transaction(STORE, mode).objectStore(STORE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error ?? new Error("the database refused"));
    });
  } finally {
    db.close();
  }
}
