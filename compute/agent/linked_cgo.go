//go:build cgo

package agent

// dynamic says that this build of the program loads libraries when it starts.
const dynamic = true
