"""Microsoft's own client for Python against a node, with its validation on.

Arguments: the node's URL and a directory with what the test needs. The client
knows RSA only, so the provider signs with RS256.
"""

import pathlib
import struct
import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.security.attestation import (
    AttestationAdministrationClient,
    AttestationClient,
    AttestationType,
)

url, directory = sys.argv[1] + "/azure/python", pathlib.Path(sys.argv[2])
POLICY = """version= 1.0;
authorizationrules { [type=="x-ms-sgx-is-debuggable", value==false] => permit(); };
issuancerules { c:[type=="x-ms-sgx-mrsigner"] => issue(type="signed-by", value=c.value); };"""


class Credential:
    """The access token of the provider's owner."""

    def get_token(self, *_scopes, **_options):
        return AccessToken((directory / "token").read_text().strip(), int(time.time()) + 3600)


def refused(call, reason):
    try:
        call()
    except HttpResponseError as e:
        assert reason in str(e), f"{e}, want {reason}"
    else:
        raise AssertionError(f"accepted, want {reason}")


strict = {"validate_issuer": True, "issuer": url}
quote = (directory / "quote.bin").read_bytes()
key, certificate = (directory / "first.key").read_text(), (directory / "first.pem").read_text()
options = {"retry_total": 0}

with AttestationClient(url, Credential(), **options) as client:
    assert client.get_open_id_metadata()["issuer"] == url
    assert client.get_signing_certificates()
    report = struct.pack("<IIQ", 1, 2, len(quote)) + quote
    for result, token in (client.attest_sgx_enclave(quote, **strict), client.attest_open_enclave(report, **strict)):
        assert token.algorithm == "RS256" and result.issuer == url
        assert result.verifier_type == "sgx" and not result.is_debuggable and len(result.mr_enclave) == 64
    refused(lambda: client.attest_sgx_enclave(quote, runtime_data=b"not in it"), "binding")
    print("ok   azure-security-attestation: attest")

    with AttestationAdministrationClient(url, Credential(), **options) as admin:
        signed = {"signing_key": key, "signing_certificate": certificate}
        initial, _ = admin.get_policy(AttestationType.SGX_ENCLAVE, **strict)
        assert "permit()" in initial
        refused(lambda: admin.set_policy(AttestationType.SGX_ENCLAVE, POLICY), "not signed")
        admin.set_policy(AttestationType.SGX_ENCLAVE, POLICY, **signed, **strict)
        policy, _ = admin.get_policy(AttestationType.SGX_ENCLAVE, **strict)
        assert policy == POLICY
        result, _ = client.attest_sgx_enclave(quote, **strict)
        assert result.policy_claims["signed-by"] == result.mr_signer
        certificates, _ = admin.get_policy_management_certificates(**strict)
        assert len(certificates) == 1
        second = (directory / "second.pem").read_text()
        admin.add_policy_management_certificate(second, **signed, **strict)
        admin.remove_policy_management_certificate(second, **signed, **strict)
        admin.reset_policy(AttestationType.SGX_ENCLAVE, **signed, **strict)
        assert admin.get_policy(AttestationType.SGX_ENCLAVE, **strict)[0] == initial
    print("ok   azure-security-attestation: signed policies")
