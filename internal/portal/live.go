package portal

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/internal/problem"
)

// Bounds of live streams.
const (
	maxStreams = 64
	keepAlive  = 20 * time.Second // between signs of life; also how late a signed-out stream ends
)

// liveEvent is what the script of a page gets: enough to say it aloud, and to know
// whether to look again. The page itself is fetched, so that everything is escaped
// in one place.
type liveEvent struct {
	ID   string `json:"id"` // of the instance; empty when it concerns none
	Text string `json:"text"`
}

// live is a stream of server-sent events (HTML Living Standard, section 9.2).
func (p *Portal) live(w http.ResponseWriter, r *http.Request) error {
	select {
	case p.streaming <- struct{}{}:
		defer func() { <-p.streaming }()
	default:
		return problem.New(http.StatusServiceUnavailable, "too_many", "too many pages are open", "close some, or reload by hand")
	}
	events, end := p.journal.listen()
	defer end()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(format string, a ...any) bool {
		_, err := fmt.Fprintf(w, format, a...)
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 2000\n\n") {
		return nil
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case e := <-events:
			b, err := json.Marshal(liveEvent{ID: e.ID, Text: e.sentence()})
			if err != nil || !send("event: change\ndata: %s\n\n", b) {
				return nil // the stream has begun: there is nobody to tell
			}
		case <-tick.C:
			if !p.signedIn(r) || !send(": still here\n\n") {
				return nil
			}
		case <-r.Context().Done():
			return nil
		}
	}
}

// sentence says an event aloud.
func (e event) sentence() string {
	if e.Name == "" {
		return ""
	}
	text := e.Name + " is " + string(e.State)
	if e.Code != "" {
		text += ": " + e.Code
	}
	return Visible(text)
}
