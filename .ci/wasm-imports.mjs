// Fails if a WebAssembly module imports anything at all:
//
//     node .ci/wasm-imports.mjs MODULE.wasm…
//
// The core is to need nothing from whoever runs it: no clock, no randomness, no files.

import { readFile } from "node:fs/promises";
import { argv, exit } from "node:process";

const paths = argv.slice(2);
if (paths.length === 0) {
    console.error("usage: node .ci/wasm-imports.mjs MODULE.wasm…");
    exit(2);
}
let foreign = 0;
for (const path of paths) {
    const module = await WebAssembly.compile(await readFile(path));
    const imports = WebAssembly.Module.imports(module);
    const exports = WebAssembly.Module.exports(module);
    for (const { module, name, kind } of imports) console.error(`imports ${kind} ${module}.${name}`);
    console.log(`${path}: ${imports.length} imports, ${exports.length} exports`);
    foreign += imports.length;
}
exit(foreign === 0 ? 0 : 1);
