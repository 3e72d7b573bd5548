// Runs a WebAssembly program that may import nothing at all, such as a test binary for
// wasm32-unknown-unknown:
//
//     node .ci/bare.mjs PROGRAM.wasm
//
// Such a program has no clock, no randomness, no files, no arguments and no output. Fails if it
// imports anything, or if its `main` does not return 0; a test that fails is a trap in it.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { argv, exit } from "node:process";

const [path, ...rest] = argv.slice(2);
if (path === undefined || rest.length > 0) {
    console.error("usage: node .ci/bare.mjs PROGRAM.wasm");
    exit(2);
}
const program = await WebAssembly.compile(await readFile(path));
const imports = WebAssembly.Module.imports(program);
if (imports.length > 0) {
    const names = imports.map(({ module, name }) => `${module}.${name}`);
    console.error(`${basename(path)} imports ${names.join(", ")}`);
    exit(1);
}
const { exports } = await WebAssembly.instantiate(program, {});
const result = exports.main(0, 0);
console.log(`${basename(path)}: imports nothing; main returned ${result}`);
exit(result);
