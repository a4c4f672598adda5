// Microsoft's own client for JavaScript against a node, with its validation on.
// Arguments: the node's URL and a directory with what the test needs.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { AttestationAdministrationClient, AttestationClient } from "@azure/attestation";

const [url, dir] = process.argv.slice(2);
const read = (name) => readFileSync(`${dir}/${name}`);
const text = (name) => read(name).toString("utf8");
const quote = read("quote.bin");
const policy = `version= 1.0;
authorizationrules { [type=="x-ms-sgx-is-debuggable", value==false] => permit(); };
issuancerules { c:[type=="x-ms-sgx-mrsigner"] => issue(type="signed-by", value=c.value); };`;
const denying = policy.replace("value==false", "value==true");
const credential = (name) => ({ getToken: async () => ({ token: text(name).trim(), expiresOnTimestamp: Date.now() + 3600e3 }) });

// strict is what the client does not do by itself: it looks at the issuer.
const strict = (at) => ({
  validationOptions: {
    validateToken: true, validateExpirationTime: true, validateNotBeforeTime: true, validateIssuer: true, expectedIssuer: at,
  },
});
const noRetry = { retryOptions: { maxRetries: 0 } };

// A report of Open Enclave is a quote behind a header of its own.
const report = Buffer.alloc(16 + quote.length);
report.writeUInt32LE(1, 0);
report.writeUInt32LE(2, 4);
report.writeBigUInt64LE(BigInt(quote.length), 8);
quote.copy(report, 16);

async function attest(at, alg) {
  const client = new AttestationClient(at, noRetry);
  const metadata = await client.getOpenIdMetadata();
  assert.equal(metadata.issuer, at);
  assert.equal(metadata.jwks_uri, `${at}/certs`);
  assert.deepEqual(metadata.id_token_signing_alg_values_supported, [alg]);
  const signers = await client.getAttestationSigners();
  assert.ok(signers.length >= 1 && signers[0].certificates[0].includes("BEGIN CERTIFICATE"));
  for (const call of [() => client.attestSgxEnclave(quote, strict(at)), () => client.attestOpenEnclave(report, strict(at))]) {
    const { body, token } = await call();
    assert.equal(token.algorithm, alg);
    assert.equal(body.issuer, at);
    assert.equal(body.verifierType, "sgx");
    assert.equal(body.isDebuggable, false);
    assert.match(body.mrEnclave, /^[0-9a-f]{64}$/);
    assert.equal(body.sgxCollateral.quotehash.length, 64);
  }
  // Data that the quote does not vouch for, an altered quote, and no quote.
  await assert.rejects(client.attestSgxEnclave(quote, { runTimeData: Buffer.from("not in it") }), /binding/);
  const altered = Buffer.from(quote);
  altered[48 + 64] ^= 1;
  await assert.rejects(client.attestSgxEnclave(altered), /signature/);
  await assert.rejects(client.attestSgxEnclave(Buffer.from("nonsense")), /parse/);
  // The first message of the TPM protocol.
  const answer = JSON.parse(await client.attestTpm(JSON.stringify({ payload: { type: "aikcert" } })));
  assert.ok(answer.payload.challenge.length >= 32 && answer.payload.service_context);
  await assert.rejects(client.attestTpm(JSON.stringify({ payload: { type: "other" } })), /aikcert/);
}

async function draft(at) {
  const client = new AttestationClient(at, noRetry);
  const tried = await client.attestSgxEnclave(quote, { draftPolicyForAttestation: policy });
  assert.equal(tried.token.algorithm, "none"); // said so: it is only tried out
  await assert.rejects(client.attestSgxEnclave(quote, { draftPolicyForAttestation: denying }), /x-ms-sgx-is-debuggable/);
}

async function unsigned(at) {
  const client = new AttestationClient(at, noRetry);
  const admin = new AttestationAdministrationClient(at, credential("token"), noRetry);
  const stranger = new AttestationAdministrationClient(at, credential("stranger"), noRetry);
  const initial = (await admin.getPolicy("SgxEnclave", strict(at))).body;
  assert.match(initial, /=> permit\(\);/);
  await assert.rejects(stranger.setPolicy("SgxEnclave", policy), /owner/);
  await assert.rejects(admin.setPolicy("SgxEnclave", "version= 1.0; nonsense"), /1:15/);
  const { body, token } = await admin.setPolicy("SgxEnclave", policy, strict(at));
  assert.equal(body.policyResolution, "Updated");
  assert.ok(token.issuer === at && body.policyTokenHash.length === 32);
  assert.equal((await stranger.getPolicy("SgxEnclave", strict(at))).body, policy); // no secret
  const result = (await client.attestSgxEnclave(quote, strict(at))).body;
  assert.equal(result.policyClaims["signed-by"], result.mrSigner);
  const hash = createHash("sha256").update(Buffer.from(policy).toString("base64url")).digest();
  assert.deepEqual(Buffer.from(result.policyHash), hash);
  await admin.setPolicy("SgxEnclave", denying, strict(at));
  await assert.rejects(client.attestSgxEnclave(quote), /x-ms-sgx-is-debuggable/);
  await assert.rejects(stranger.resetPolicy("SgxEnclave"), /owner/);
  assert.equal((await admin.resetPolicy("SgxEnclave", strict(at))).body.policyResolution, "Removed");
  assert.equal((await admin.getPolicy("SgxEnclave", strict(at))).body, initial);
  assert.deepEqual((await admin.getPolicyManagementCertificates(strict(at))).body, []);
  await assert.rejects(admin.addPolicyManagementCertificate(text("second.pem"), text("first.key"), text("first.pem")), /isolated/);
}

async function isolated(at) {
  const client = new AttestationClient(at, noRetry);
  const admin = new AttestationAdministrationClient(at, credential("token"), noRetry);
  const by = (name) => ({ privateKey: text(`${name}.key`), certificate: text(`${name}.pem`), ...strict(at) });
  await assert.rejects(admin.setPolicy("SgxEnclave", policy), /not signed/);
  await assert.rejects(admin.setPolicy("SgxEnclave", policy, by("second")), /policy signers/);
  const set = await admin.setPolicy("SgxEnclave", policy, by("first"));
  assert.equal(set.body.policyResolution, "Updated");
  assert.ok(set.body.policySigner.certificates[0].includes("BEGIN CERTIFICATE"));
  const result = (await client.attestSgxEnclave(quote, strict(at))).body;
  assert.equal(result.policyClaims["signed-by"], result.mrSigner);
  assert.ok(result.policySigner);
  const certificates = async () => (await admin.getPolicyManagementCertificates(strict(at))).body.length;
  assert.equal(await certificates(), 1);
  await assert.rejects(admin.addPolicyManagementCertificate(text("second.pem"), text("second.key"), text("second.pem")), /policy signers/);
  const added = await admin.addPolicyManagementCertificate(text("second.pem"), text("first.key"), text("first.pem"), strict(at));
  assert.equal(added.body.certificateResolution, "IsPresent");
  assert.equal(await certificates(), 2);
  await admin.setPolicy("SgxEnclave", policy, by("second"));
  const removed = await admin.removePolicyManagementCertificate(text("first.pem"), text("second.key"), text("second.pem"), strict(at));
  assert.equal(removed.body.certificateResolution, "IsAbsent");
  await assert.rejects(admin.removePolicyManagementCertificate(text("second.pem"), text("second.key"), text("second.pem")), /last/);
  await assert.rejects(admin.resetPolicy("SgxEnclave"), /not signed/);
  await admin.resetPolicy("SgxEnclave", by("second"));
}

const steps = {
  "default provider": async () => {
    // It has no grace, and the recorded collateral is of its day.
    const client = new AttestationClient(url, noRetry);
    await assert.rejects(client.attestSgxEnclave(quote), /collateral_expired/);
    await assert.rejects(new AttestationAdministrationClient(url, credential("token"), noRetry).setPolicy("SgxEnclave", policy), /owner/);
  },
  "attest, ES256": () => attest(`${url}/azure/plain`, "ES256"),
  "attest, ES384": () => attest(`${url}/azure/long`, "ES384"),
  "attest, RS256": () => attest(`${url}/azure/isolated`, "RS256"),
  "draft policy": () => draft(`${url}/azure/plain`),
  "unsigned policies": () => unsigned(`${url}/azure/plain`),
  "signed policies": () => isolated(`${url}/azure/isolated`),
};
for (const [name, step] of Object.entries(steps)) {
  await step();
  console.log(`ok   @azure/attestation: ${name}`);
}
