// Bundles the tests and runs them with node's test runner: the pure modules need no browser.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const out = mkdtempSync(join(tmpdir(), "wavry-web-test-"));
try {
  const tests = readdirSync(join(web, "test")).filter((f) => f.endsWith(".test.ts"));
  await build({
    entryPoints: tests.map((f) => join(web, "test", f)), bundle: true, outdir: out, format: "esm", platform: "node", target: "node20",
    outExtension: { ".js": ".mjs" }, logLevel: "warning", sourcemap: "inline",
    define: { __WEB__: JSON.stringify(web) },
  });
  const r = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...tests.map((f) => join(out, f.replace(/\.ts$/, ".mjs")))], { stdio: "inherit" });
  process.exitCode = r.status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
