package eventlog_test

import (
	"fmt"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// A verifier has the values of PCRs from a quote, and a log that somebody sent
// along. Here a log is made first.
func Example() {
	variable := []byte("\x61\xDF\xE4\x8B\xCA\x93\xD2\x11\xAA\x0D\x00\xE0\x98\x03\x2B\x8C\x0A\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" +
		"S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00\x01")
	log := &eventlog.Log{Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA256}}
	log.Events = []eventlog.Event{
		eventlog.NewEvent(7, eventlog.TypeVariableConfig, variable, variable, eventlog.SHA256),
		eventlog.NewEvent(7, eventlog.TypeSeparator, make([]byte, 4), make([]byte, 4), eventlog.SHA256),
	}
	sent := log.Encode()

	received, err := eventlog.Parse(sent)
	if err != nil {
		fmt.Println(err)
		return
	}
	replayed, err := received.Replay(eventlog.SHA256)
	if err != nil {
		fmt.Println(err)
		return
	}
	quoted := map[uint32][]byte{7: replayed[7]} // in earnest, from a quote
	facts, failures := received.Verify(eventlog.SHA256, quoted)
	fmt.Println("secure boot:", facts.Claims()["secure_boot"], failures)

	quoted[7] = make([]byte, 32)
	_, failures = received.Verify(eventlog.SHA256, quoted)
	fmt.Println("another boot:", failures[0].Code, failures[0].Claim)
	// Output:
	// secure boot: true []
	// another boot: event_log pcr 7
}
