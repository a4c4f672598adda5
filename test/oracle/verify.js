// Asks another verifier about quotes. Reads one request a line from stdin,
// {"quote": hex, "at": seconds}, and answers {"status", "advisories"} or
// {"error"}; the first line is the collateral.
const { verify } = require('@phala/dcap-qvl');
const readline = require('node:readline');

const lines = readline.createInterface({ input: process.stdin });
let collateral;
lines.on('line', (line) => {
  const request = JSON.parse(line);
  if (!collateral) {
    collateral = { ...request };
    for (const list of ['root_ca_crl', 'pck_crl', 'tcb_info_signature', 'qe_identity_signature']) {
      collateral[list] = Buffer.from(collateral[list], 'hex');
    }
    return;
  }
  let answer;
  try {
    const r = verify(Buffer.from(request.quote, 'hex'), collateral, request.at);
    answer = { status: r.status, advisories: r.advisory_ids };
  } catch (e) {
    answer = { error: String(e.message || e) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
