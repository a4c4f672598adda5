package rcar

import (
	"container/list"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"
)

const (
	nonceSize = 32
	idSize    = 16 // bytes, in hex as Trustee's are
)

// session is what is remembered between the two requests of a guest.
type session struct {
	tee     guestTEE
	version version
	nonce   [nonceSize]byte

	id    string
	until time.Time
}

// sessions holds the open ones, the oldest first. All live equally long, so the
// oldest are those that end first. Ids are compared by a map: that they cannot be
// guessed rests on their 128 random bits, not on the time a lookup takes.
type sessions struct {
	most     int
	lifetime time.Duration

	mu    sync.Mutex
	byID  map[string]*list.Element
	order *list.List // of *session
}

func newSessions(most int, lifetime time.Duration) *sessions {
	return &sessions{most: most, lifetime: lifetime, byID: map[string]*list.Element{}, order: list.New()}
}

// open gives s a nonce and an id and remembers it. Where there is no room the
// oldest makes it: a flood then shortens how long an honest guest may take, where
// refusing it would lock the guest out.
func (l *sessions) open(s *session, now time.Time) (id string, err error) {
	var raw [idSize]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	if _, err := rand.Read(s.nonce[:]); err != nil {
		return "", err
	}
	s.id, s.until = hex.EncodeToString(raw[:]), now.Add(l.lifetime)
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.order.Front(); e != nil; e = l.order.Front() {
		if old := sessionOf(e); now.Before(old.until) && l.order.Len() < l.most {
			break
		}
		l.remove(e)
	}
	l.byID[s.id] = l.order.PushBack(s)
	return s.id, nil
}

// take returns an open session and forgets it: its nonce is good once.
func (l *sessions) take(id string, now time.Time) (*session, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byID[id]
	if !ok {
		return nil, false
	}
	l.remove(e)
	s := sessionOf(e)
	return s, now.Before(s.until)
}

func (l *sessions) remove(e *list.Element) {
	delete(l.byID, sessionOf(e).id)
	l.order.Remove(e)
}

func sessionOf(e *list.Element) *session {
	s, _ := e.Value.(*session) // nothing else is put there
	return s
}
