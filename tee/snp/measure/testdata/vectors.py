"""Prints vectors.json: launch digests that virtee/sev-snp-measure computes.

    git clone https://github.com/virtee/sev-snp-measure && cd sev-snp-measure
    git checkout 8f2b337e38bc83f87cd30f3253cdfe8e3e12cc3a
    PYTHONPATH=. python3 .../testdata/vectors.py .../testdata >vectors.json

Where "published" is true, the digest also stands in its tests/test_guest.py.
"""
import itertools
import json
import os
import sys
import tempfile

from sevsnpmeasure import guest, vcpu_types
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmm_types import VMMType

here = sys.argv[1]
published = open("tests/test_guest.py").read().replace("'\n                '", "")
vectors = []
EMPTY = ("", "", "")


def add(firmware, vcpus, cpu, features, vmm, kernel, digest_of_firmware=""):
    files = []
    for contents in (kernel or ())[:2]:
        f = tempfile.NamedTemporaryFile(delete=False)
        f.write(contents.encode())
        f.close()
        files.append(f.name)
    sig = vcpu_types.CPU_SIGS[cpu] if cpu else 0
    image, initrd, cmdline = (files[0], files[1], kernel[2]) if kernel is not None else (None, None, None)
    digest = guest.calc_launch_digest(SevMode.SEV_SNP, vcpus, sig, os.path.join(here, firmware), image, initrd, cmdline,
                                      features, digest_of_firmware, vmm_type=getattr(VMMType, vmm)).hex()
    vectors.append({
        "firmware": firmware, "firmware_digest": digest_of_firmware, "vcpus": vcpus, "cpu": cpu, "features": features,
        "vmm": vmm.lower(), "kernel": kernel, "digest": digest, "published": digest in published,
    })


# Those of tests/test_guest.py that are of SEV-SNP and without a service module.
amd, x64, v4 = "AmdSev-end.bin", "OvmfX64-end.bin", "EPYC-v4"
known = "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74"
for features in (0x21, 0x1):
    add(amd, 1, v4, features, "QEMU", EMPTY, known)
    add(amd, 1, v4, features, "QEMU", ("", "", "console=ttyS0 loglevel=7"), known)
    add(amd, 1, v4, features, "QEMU", ("", "", "console=ttyS0 loglevel=7"))
    add(amd, 1, v4, features, "QEMU", None)
    add(amd, 4, v4, features, "QEMU", EMPTY)
    add(x64, 1, v4, features, "QEMU", None)
    add(amd, 1, v4, features, "ec2", EMPTY)
for n in (1, 4):
    add(amd, n, "", 0x1, "gce", EMPTY)

# More shapes.
kernel = ("a kernel", "an initrd of some length" * 10, "console=ttyS0 panic=-1 quiet root=/dev/vda \u00e9")
cpus = ("EPYC", "EPYC-Rome", "EPYC-Milan-v2", "EPYC-Genoa", "EPYC-Turin")
for cpu, vcpus in itertools.product(cpus, (1, 2, 8, 64)):
    add(amd, vcpus, cpu, 0x1, "QEMU", kernel)
for vmm, vcpus in itertools.product(("QEMU", "ec2", "gce"), (1, 3, 192)):
    add(amd, vcpus, "EPYC-Milan", 0x3D, vmm, kernel)
    add(x64, vcpus, "EPYC-Milan", 0x1, vmm, None)
print(json.dumps(vectors, indent=1))
