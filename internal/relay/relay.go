// Package relay passes bytes between two connections: what the host carries for an
// instance, and the agent for its program.
//
// # What it protects against
//
// Losing the end of an answer: a side that has said all it wants still gets what the
// other has to say.
//
// # What it does not protect against
//
// Anything that passes. It looks at nothing, and bounds nothing.
package relay

import (
	"io"
	"net"
	"sync"
)

// Both copies both ways until both sides have ended, and closes them. Of a side that
// can, only the sending half is closed when the other has ended.
func Both(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { one(a, b) })
	one(b, a)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

func one(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if c, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
		return
	}
	_ = dst.Close() // of a stream of the channel: its write side only
}
