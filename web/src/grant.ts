// A grant is only as good as the host's signature: the certificate hashes are used for a connection only after the host's
// long-lived Ed25519 identity has been seen to have signed them for this session.

import { Refused, base64, type Grant } from "./api.js";

const LABEL = "wavry certificate v1\0";

/** The bytes a host signs: signalapi.CertificateStatement. Expiry in Unix seconds. */
export function certificateStatement(session: string, expiry: number, hashes: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder();
  const label = text.encode(LABEL), id = text.encode(session);
  const b = new Uint8Array(label.length + 2 + id.length + 8 + 1 + 32 * hashes.length);
  const view = new DataView(b.buffer);
  b.set(label);
  let at = label.length;
  view.setUint16(at, id.length);
  b.set(id, at + 2);
  at += 2 + id.length;
  view.setUint32(at, Math.floor(expiry / 2 ** 32));
  view.setUint32(at + 4, expiry % 2 ** 32);
  view.setUint8(at + 8, hashes.length);
  at += 9;
  for (const h of hashes) {
    b.set(h, at);
    at += 32;
  }
  return b;
}

/** Unix seconds of an RFC 3339 time. */
export function unixSeconds(rfc3339: string): number {
  return Math.floor(Date.parse(rfc3339) / 1000);
}

/** Returns the certificate hashes of a grant after checking the host's signature. Throws Refused. now in milliseconds. */
export async function verifiedHashes(grant: Grant, now: number): Promise<Uint8Array<ArrayBuffer>[]> {
  const bad = (why: string) => new Refused("bad_grant", `The host could not prove who it is (${why}). Do not go on; tell your operator.`);
  const { certificate, host, session } = grant;
  const hashes = certificate.hashes.map(base64);
  if (hashes.length === 0 || hashes.some((h) => h.length !== 32)) throw bad("no certificate named");
  const expiry = unixSeconds(certificate.expiry);
  if (!(expiry * 1000 > now)) throw bad("its statement has expired, or this machine's clock is wrong");
  const identity = base64(host.identity);
  if (identity.length !== 32) throw bad("it has no identity");
  const key = await crypto.subtle.importKey("raw", identity, { name: "Ed25519" }, false, ["verify"]);
  const statement = certificateStatement(session, expiry, hashes);
  if (!(await crypto.subtle.verify({ name: "Ed25519" }, key, base64(certificate.signature), statement))) throw bad("its signature is wrong");
  return hashes;
}

/** The viewer's token of a URL: the last segment of the path. */
export function tokenOf(url: string): string {
  return url.slice(url.lastIndexOf("/") + 1);
}

/** The same URL with another viewer's token. */
export function withToken(url: string, token: string): string {
  return url.replace(/\/[^/]*$/, "/" + token);
}
