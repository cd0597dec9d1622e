// Builds web/dist: one script, one style sheet, the page and the mark. The names are stable and carry their content's hash in the
// query, so that a commit shows only what changed and browsers may keep them for ever.
// With a folder as argument it builds there instead; --watch builds again at each change.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync, rmSync, watch } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const args = process.argv.slice(2);
const out = args.find((a) => !a.startsWith("-")) ?? join(web, "dist");

async function bundle() {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const results = await Promise.all([["app.js", "src/app.ts"], ["app.css", "src/style.css"]].map(async ([name, entry]) => {
    const r = await build({
      entryPoints: [join(web, entry)], bundle: true, minify: true, write: false, format: "esm", target: "es2022", charset: "utf8", legalComments: "none",
    });
    writeFileSync(join(out, name), r.outputFiles[0].contents);
    return [name, Buffer.from(r.outputFiles[0].contents)];
  }));
  let page = readFileSync(join(web, "src/index.html"), "utf8");
  for (const [name, content] of results) {
    page = page.replaceAll(`"${name}"`, `"${name}?v=${createHash("sha256").update(content).digest("hex").slice(0, 12)}"`);
  }
  writeFileSync(join(out, "index.html"), page);
  writeFileSync(join(out, "logo.svg"), readFileSync(join(web, "src/logo.svg")));
  return results.map(([name, c]) => `${name} ${(c.length / 1024).toFixed(1)} kB (${(gzipSync(c).length / 1024).toFixed(1)} kB compressed)`).join(", ");
}

console.log(await bundle());
if (args.includes("--watch")) {
  let timer;
  watch(join(web, "src"), { recursive: true }, () => {
    clearTimeout(timer);
    timer = setTimeout(() => bundle().then(console.log, (e) => console.error(e.message)), 100);
  });
}
