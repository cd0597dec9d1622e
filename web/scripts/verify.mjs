// Checks that web/dist is what the sources build to: the bundle is committed, so that a Go toolchain alone builds Wavry.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const fresh = mkdtempSync(join(tmpdir(), "wavry-web-"));
try {
  execFileSync(process.execPath, [join(web, "scripts/build.mjs"), fresh]);
  const names = [...new Set([...readdirSync(fresh), ...readdirSync(join(web, "dist"))])].sort();
  const read = (dir, name) => { try { return readFileSync(join(dir, name)); } catch { return null; } };
  const stale = names.filter((n) => { const a = read(fresh, n), b = read(join(web, "dist"), n); return !a || !b || !a.equals(b); });
  if (stale.length > 0) {
    console.error(`web/dist is not what web/src builds to: ${stale.join(", ")}. Run: npm --prefix web run build`);
    process.exitCode = 1;
  } else {
    console.log(`web/dist is up to date: ${names.join(", ")}`);
  }
} finally {
  rmSync(fresh, { recursive: true, force: true });
}
