#!/bin/sh
# Builds the guests in this directory. xor.wasm was built with Debian clang 14
# and lld 14. Compile with -O and link without: clang runs wasm-opt when it
# links with -O, and that fails on SIMD.
set -eu
cd "$(dirname "$0")"
object=$(mktemp)
trap 'rm -f "$object"' EXIT
clang --target=wasm32-unknown-unknown -std=c11 -Wall -Wextra -Werror -O3 -msimd128 -mbulk-memory -ffreestanding -nostdlib -c xor.c -o "$object"
wasm-ld --no-entry --strip-all --export-memory -z stack-size=8192 "$object" -o xor.wasm 2>/dev/null ||
	wasm-ld --no-entry --strip-all -z stack-size=8192 "$object" -o xor.wasm
