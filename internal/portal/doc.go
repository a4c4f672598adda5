// Package portal is the web portal of a host: pages that show its instances, what
// they prove and what the host sees of them, and forms that create, start, stop
// and delete them. Pages are made on the server and can be read without
// JavaScript; a small script of its own keeps them current.
//
// # What it protects against
//
// Other users of the machine and pages of other sites in the same browser: every
// page but the login wants a session, which is given for a login token that is
// good once and for a few minutes; changes are refused from other origins; other
// names for this address (DNS rebinding) are refused; nothing is loaded from
// elsewhere. Instances that try to draw on a page: all that comes from them is
// untrusted text, with control characters made visible.
//
// # What it does not protect against
//
// Its host, which it is part of: what a page says of evidence is the host's word,
// and whoever owns data verifies evidence with their own copy of cloister. It has
// no TLS, so it is served on loopback only. A browser sends a cookie to every
// port of a host: another user's program that listens on the same loopback
// address, and that the signed-in browser visits, gets to see the session. It
// shows no value of any secret, because the host has none.
package portal
