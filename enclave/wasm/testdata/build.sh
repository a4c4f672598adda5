#!/bin/sh
# Builds the guests in this directory. They were built with Debian's clang 14,
# lld 14 and wasi-libc (apt-get install clang lld wasi-libc libclang-rt-dev-wasm32).
# Compile with -O and link without: clang runs wasm-opt when it links with -O,
# and that fails on SIMD.
set -eu
cd "$(dirname "$0")"
object=$(mktemp)
trap 'rm -f "$object"' EXIT
flags='-std=c11 -Wall -Wextra -Werror'
clang --target=wasm32-unknown-unknown $flags -O3 -msimd128 -mbulk-memory -ffreestanding -nostdlib -c xor.c -o "$object"
wasm-ld --no-entry --strip-all --export-memory -z stack-size=8192 "$object" -o xor.wasm 2>/dev/null ||
	wasm-ld --no-entry --strip-all -z stack-size=8192 "$object" -o xor.wasm
clang --target=wasm32-unknown-unknown $flags -g -O1 -ffreestanding -nostdlib -fdebug-compilation-dir=. -c trap.c -o "$object"
wasm-ld --no-entry --export-memory -z stack-size=8192 "$object" -o trap.wasm 2>/dev/null ||
	wasm-ld --no-entry -z stack-size=8192 "$object" -o trap.wasm
clang --target=wasm32-wasi $flags -D_GNU_SOURCE -Os -c files.c -o "$object"
clang --target=wasm32-wasi -Wl,--strip-all "$object" -o files.wasm
chmod 644 xor.wasm trap.wasm files.wasm
