package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/tee/launch"
)

// maxCreate bounds the JSON part of a create request in bytes.
const maxCreate = 1 << 20

// launchOf reads the body of a request to create or to update: what is to be launched,
// whose files are read when they are stored.
func launchOf(r *http.Request) (client.CreateRequest, compute.Create, error) {
	var req client.CreateRequest
	refuse := func(err error) (client.CreateRequest, compute.Create, error) {
		return client.CreateRequest{}, compute.Create{}, err
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return refuse(problem.New(http.StatusUnsupportedMediaType, "content_type", "want multipart/form-data", ""))
	}
	parts := &partQueue{r: multipart.NewReader(r.Body, params["boundary"])}
	b, err := io.ReadAll(io.LimitReader(parts.reader("create"), maxCreate))
	if err != nil {
		return refuse(problem.New(http.StatusBadRequest, "bad_request", "the body does not start with the part \"create\"", ""))
	}
	if err := json.Unmarshal(b, &req); err != nil {
		return refuse(problem.New(http.StatusBadRequest, "bad_request", "the part \"create\" is not valid JSON", ""))
	}
	c := compute.Create{Name: req.Name, Spec: req.Spec, Start: req.Start, Inputs: map[string]io.Reader{}}
	var last *partReader
	if req.Spec.Launch.Image.Kind != launch.Builtin {
		last = parts.reader("image")
		c.Image = last
	}
	for _, name := range req.Spec.Launch.Inputs {
		last = parts.reader("input:" + name)
		c.Inputs[name] = last
	}
	if last != nil {
		last.last = true
	} else if err := parts.end(); err != nil {
		return refuse(err)
	}
	return req, c, nil
}

// partQueue hands out the parts of a multipart body in the order in which they
// are read, so that nothing is stored twice.
type partQueue struct{ r *multipart.Reader }

func (q *partQueue) reader(name string) *partReader { return &partReader{queue: q, name: name} }

// end refuses a body that goes on: what nobody asked for was meant for something.
func (q *partQueue) end() error {
	switch _, err := q.r.NextPart(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("%w: the body ends too early", compute.ErrRefused)
	default:
		return fmt.Errorf("%w: the body has a part that the launch document does not list", compute.ErrRefused)
	}
}

type partReader struct {
	queue *partQueue
	name  string
	part  *multipart.Part
	last  bool // the body must end behind this part
}

func (p *partReader) Read(b []byte) (int, error) {
	if p.part == nil {
		part, err := p.queue.r.NextPart()
		if err != nil {
			return 0, fmt.Errorf("%w: the body has no part %q", compute.ErrRefused, p.name)
		}
		if part.FormName() != p.name {
			return 0, fmt.Errorf("%w: the body's next part is not %q", compute.ErrRefused, p.name)
		}
		p.part = part
	}
	n, err := p.part.Read(b)
	switch {
	case errors.Is(err, io.EOF) && p.last:
		p.last = false
		if err := p.queue.end(); err != nil {
			return n, err
		}
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: the body ends within the part %q", compute.ErrRefused, p.name)
	}
	return n, err
}
