// Package record writes down verdicts so that anybody can reach them again: what
// was judged, by what, at which time, and what came out, in one canonical form.
// [Judge] makes a record of a [Case]; an [Archive] keeps records with everything
// that they were made from; [Archive.Replay] judges again and compares byte by
// byte; [Archive.Impact] judges with other collateral, and says which past
// verdicts would be refused today.
//
// # What it protects against
//
// A verdict that nobody can check afterwards, and one that was changed: every
// part of a record is named by its digest, and so is the record.
//
// # What it does not protect against
//
// Records that were left out or deleted: an archive is a directory. A ledger
// that keeps the digests of records in order does.
package record
