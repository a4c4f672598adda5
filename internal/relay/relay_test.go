package relay_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/cloister-cc/cloister/internal/relay"
)

// pair is two connected ends over TCP, which can be closed by halves.
func pair(t testing.TB) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// TestBoth: a side that has said all it wants still gets the whole answer, whoever
// speaks first, and at the end both are closed.
func TestBoth(t *testing.T) {
	client, left := pair(t)
	server, right := pair(t)
	done := make(chan struct{})
	go func() { relay.Both(left, right); close(done) }()
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	heard, err := io.ReadAll(server)
	if err != nil || string(heard) != "question" {
		t.Fatalf("%q, %v", heard, err)
	}
	if _, err := fmt.Fprintf(server, "answer to %s", heard); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(client); err != nil || string(b) != "answer to question" {
		t.Errorf("%q, %v", b, err)
	}
	<-done
	if _, err := left.Write([]byte("x")); err == nil {
		t.Error("a side is still open")
	}
}

// TestWithoutHalves: pipes, which cannot be closed by halves, end as a whole.
func TestWithoutHalves(t *testing.T) {
	a, left := net.Pipe()
	b, right := net.Pipe()
	done := make(chan struct{})
	go func() { relay.Both(left, right); close(done) }()
	go func() { _, _ = a.Write([]byte("all")); _ = a.Close() }()
	if got, err := io.ReadAll(b); err != nil || string(got) != "all" {
		t.Errorf("%q, %v", got, err)
	}
	_ = b.Close()
	<-done
}

func Example() {
	here, left := net.Pipe()
	there, right := net.Pipe()
	go relay.Both(left, right)
	go func() { _, _ = here.Write([]byte("hello")); _ = here.Close() }()
	b, err := io.ReadAll(there)
	fmt.Println(string(b), err)
	// Output: hello <nil>
}
