// Package eventlog reads the logs in which firmware and boot loaders say what
// they measured: TCG PC Client event logs (the crypto-agile format and the old
// one with SHA-1) and CCEL, the same for the registers of a TD. [Parse] and
// [ParseCCEL] read one, [Log.Verify] replays it against registers that evidence
// proves and returns the facts that follow.
//
// # What it protects against
//
// A log is written by the host and the guest together, so nothing in it is true
// by itself. A register's value fixes the digests of its events and their order,
// and nothing else. It does not fix an event's data, which may be anything where
// the digest is not the one of the data, and never its type, which no digest
// covers: whoever writes the log may call a boot variable a firmware version.
// Every fact of [Log.Verify] follows from digests, their places and data that
// the digests cover. Where a fact needs an event's type too, a wrong one makes it
// disappear, and [Facts] says so where it could do more. A guest can also extend registers itself once it runs, so facts about firmware
// come from events before the register's first separator only, which firmware
// measures before it starts anything else. Sizes and counts are bounded.
//
// # What it does not protect against
//
// Firmware that measures something else than what it does: whether the firmware
// is a good one is what its own measurement says (PCR 0, MRTD). Events that were
// extended without a log. A log that was left out: then there are no facts, and
// a policy that needs one refuses.
//
// Formats are from "TCG PC Client Platform Firmware Profile Specification"
// (PFP, revision 1.05) section 10, and the UEFI 2.10 specification section 38
// ("Confidential Computing") for CCEL.
package eventlog
