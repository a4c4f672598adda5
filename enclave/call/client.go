//go:build !wasip1

package call

import (
	"fmt"
	"net"
	"sync"

	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// Client asks an agent. It is safe for concurrent use; questions are answered
// one at a time. Once question and answer are out of step, every further
// question fails.
type Client struct {
	mu     sync.Mutex
	conn   net.Conn
	broken error
}

// NewClient asks over conn.
func NewClient(conn net.Conn) *Client { return &Client{conn: conn} }

// Do sends a request and returns the answer. A refusal is a *tee.Error.
func (c *Client) Do(r Request) (Answer, error) {
	if n := len(r.Name) + len(r.Data) + len(r.Hint); n > maxContent {
		return Answer{}, &tee.Error{
			Code: tee.CodeParse, Op: "ask the agent for " + string(r.Op),
			Err: fmt.Errorf("%d bytes, at most %d", n, maxContent),
		}
	}
	a, err := c.exchange(r)
	if err != nil {
		return Answer{}, &tee.Error{Code: tee.CodeUnavailable, Op: "ask the agent for " + string(r.Op), Err: err}
	}
	if a.Code != "" {
		return Answer{}, &tee.Error{Code: a.Code, Op: string(r.Op) + " " + r.Name, Hint: a.Hint, Err: fmt.Errorf("%s", a.Message)}
	}
	return a, nil
}

// maxContent is what fits a frame beside the other fields of a request.
const maxContent = MaxFrame - 1<<10

func (c *Client) exchange(r Request) (Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return Answer{}, c.broken
	}
	var a Answer
	err := frame.Write(c.conn, r)
	if err == nil {
		err = frame.Read(c.conn, MaxFrame, &a)
	}
	if err != nil {
		c.broken = err
		_ = c.conn.Close()
		return Answer{}, err
	}
	return a, nil
}

// Serve answers requests with handle until conn ends. Only one request is
// handled at a time.
func Serve(conn net.Conn, handle func(Request) Answer) {
	for {
		var r Request
		if err := frame.Read(conn, MaxFrame, &r); err != nil {
			return
		}
		if err := frame.Write(conn, handle(r)); err != nil {
			return
		}
	}
}
