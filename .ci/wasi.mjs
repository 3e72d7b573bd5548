// Runs a WASI program, such as a test binary for wasm32-wasip1, with nothing but its arguments,
// its output and the system's random numbers:
//
//     node .ci/wasi.mjs PROGRAM.wasm [ARGUMENT…]
//
// Ends with the program's own exit code.

import { readFile } from "node:fs/promises";
import { argv, exit } from "node:process";
import { WASI } from "node:wasi";

const args = argv.slice(2);
if (args.length === 0) {
    console.error("usage: node .ci/wasi.mjs PROGRAM.wasm [ARGUMENT…]");
    exit(2);
}
const wasi = new WASI({ version: "preview1", args, env: { RUST_BACKTRACE: "1" }, returnOnExit: true });
const module = await WebAssembly.compile(await readFile(args[0]));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
exit(wasi.start(instance));
