// Package term is the explanation that every policy front end gives: a tree of
// the policy's terms, each with its result and, where it refused, what it
// wanted and what it got. A refusal that does not say which term refused is of
// no use to whoever has to fix it.
//
// # What it protects against
//
// Explanations that grow without bound, that break a terminal or a log with
// control characters, or that differ between two runs. Everything that is
// rendered or encoded is cut to fixed bounds, printable and in a fixed order.
//
// # What it does not protect against
//
// A front end that puts a secret into a node. Claims are what evidence says in
// the clear and policies are not secret; nothing else belongs into Text, Want or
// Got.
//
// A Node explains; it never decides. The zero Node was not reached, which is not
// true.
package term
