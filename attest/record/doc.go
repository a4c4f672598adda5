// Package record writes down verdicts so that anybody can reach them again: what
// was judged, by what, at which time, and what came out, in one canonical form.
// [Judge] makes a record of a [Case], and [Of] one of a case that was judged
// already; an [Archive] keeps records with everything that they were made from;
// [Archive.Replay] judges again and compares byte by byte; [Archive.Impact] and
// [Archive.ImpactAll] judge with other collateral, and say which past verdicts would
// be refused today.
//
// # What it protects against
//
// A verdict that nobody can check afterwards, and one that was changed: every
// part of a record is named by its digest, and so is the record. A crash while a
// record is added: what was acknowledged stays, and the piece of a record that may
// be left is told from an altered one ([TornError]).
//
// # What it does not protect against
//
// Records that were left out or deleted, the end of a segment cut off included: an
// archive is a directory. A ledger that keeps the digests of records in order does.
package record
