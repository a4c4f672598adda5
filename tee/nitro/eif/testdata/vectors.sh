#!/usr/bin/env bash
# Prints vectors.json: images that AWS's builder makes, and the registers that it says
# they have. EIF_BUILD names that builder, made of
#
#     git clone https://github.com/aws/aws-nitro-enclaves-image-format
#     git checkout 935dc626530bfcfd1dff634187372cb0b0f778a0
#     cargo update -p aws-smithy-runtime --precise 1.8.6 && cargo build -p eif_build
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'a kernel' >k1
head -c 300 /dev/zero | tr '\0' K >k2
printf 'init' >r1
head -c 100 /dev/zero | tr '\0' r >r2
printf 'x' >r3
for curve in prime256v1 secp384r1 secp521r1; do
  openssl ecparam -name $curve -genkey -noout -out $curve.key
  openssl req -new -x509 -key $curve.key -out $curve.pem -days 3650 -subj "/CN=signer on $curve" 2>/dev/null
done
separator='['
vector() { # NAME ARG...
  local name=$1
  shift
  "$EIF_BUILD" --output image --build-time 2026-01-01T00:00:00Z "$@" >said
  grep -v '^Output' said >pcrs
  python3 - "$name" <<'P'
import base64, json, sys
p = json.load(open("pcrs"))
p.pop("HashAlgorithm")
print(json.dumps({"Name": sys.argv[1], "Image": base64.b64encode(open("image", "rb").read()).decode(), **p}), end="")
P
}
for v in "one disk:--kernel k1 --cmdline console=ttyS0 --ramdisk r1" \
  "two disks:--kernel k1 --cmdline console=ttyS0 --ramdisk r1 --ramdisk r2" \
  "three disks:--kernel k2 --cmdline reboot=k --ramdisk r1 --ramdisk r2 --ramdisk r3" \
  "other order:--kernel k2 --cmdline reboot=k --ramdisk r2 --ramdisk r1 --ramdisk r3" \
  "ARM:--kernel k1 --cmdline console=ttyS0 --ramdisk r1 --ramdisk r2 --arch aarch64" \
  "named:--kernel k1 --cmdline console=ttyS0 --ramdisk r1 --ramdisk r2 --name image --version 7" \
  "signed, ES256:--kernel k1 --cmdline console=ttyS0 --ramdisk r1 --ramdisk r2 --private-key prime256v1.key --signing-certificate prime256v1.pem" \
  "signed, ES384:--kernel k1 --cmdline console=ttyS0 --ramdisk r1 --private-key secp384r1.key --signing-certificate secp384r1.pem" \
  "signed, ES512:--kernel k2 --cmdline quiet --ramdisk r3 --ramdisk r1 --private-key secp521r1.key --signing-certificate secp521r1.pem"; do
  printf '%s\n' "$separator"
  separator=,
  # shellcheck disable=SC2086 # several arguments
  vector "${v%%:*}" ${v#*:}
done
printf '\n]\n'
