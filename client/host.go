package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"time"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/problem"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
)

// Problem is an error that a server returned (RFC 9457), with its stable code.
type Problem = problem.Problem //nolint:errname // RFC 9457 calls it a problem

// ErrNotRunning means that no platform runs on the data directory. Start one:
// cloister up.
var ErrNotRunning = errors.New("no platform runs on this data directory")

// Host is the API of a platform's host. It is safe for concurrent use.
type Host struct {
	http *http.Client
	dial func(context.Context) (net.Conn, error)
}

// NewHost returns a client of the platform on a data directory. It does not
// connect yet.
func NewHost(dataDir string) *Host {
	socket := datadir.Paths{Data: dataDir}.API()
	dial := func(ctx context.Context) (net.Conn, error) {
		c, err := unixsock.Dial(ctx, socket)
		if err != nil {
			return nil, fmt.Errorf("%w (%s): %w", ErrNotRunning, dataDir, err)
		}
		return c, nil
	}
	return &Host{dial: dial, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}
}

// Platform returns what the host says about its platform.
func (h *Host) Platform(ctx context.Context) (Platform, error) {
	var i Platform
	err := h.call(ctx, http.MethodGet, "/v1/platform", nil, "", &i)
	return i, err
}

// Instances returns all instances by name.
func (h *Host) Instances(ctx context.Context) ([]compute.Instance, error) {
	var l []compute.Instance
	err := h.call(ctx, http.MethodGet, "/v1/instances", nil, "", &l)
	return l, err
}

// Instance returns one instance.
func (h *Host) Instance(ctx context.Context, name string) (compute.Instance, error) {
	var i compute.Instance
	err := h.call(ctx, http.MethodGet, instancePath(name), nil, "", &i)
	return i, err
}

// Until says what [Host.Wait] waits for.
type Until string

// What can be waited for.
const (
	UntilRunning Until = "running" // or final, if it never runs
	UntilServing Until = "serving" // running, and it accepts connections to all its ports; or final
	UntilFinal   Until = "final"
)

// Wait returns the instance once it has reached the state.
func (h *Host) Wait(ctx context.Context, name string, until Until) (compute.Instance, error) {
	for {
		var i compute.Instance
		if err := h.call(ctx, http.MethodGet, instancePath(name)+"?wait="+string(until), nil, "", &i); err != nil {
			return compute.Instance{}, err
		}
		s := i.Status.State
		if s.Final() || (until != UntilFinal && s == compute.Running) {
			return i, nil
		}
	}
}

// Start starts an instance.
func (h *Host) Start(ctx context.Context, name string) error {
	return h.call(ctx, http.MethodPost, instancePath(name)+"/start", nil, "", nil)
}

// Stop stops an instance; its state stays.
func (h *Host) Stop(ctx context.Context, name string) error {
	return h.call(ctx, http.MethodPost, instancePath(name)+"/stop", nil, "", nil)
}

// Delete removes an instance and waits until it is gone.
func (h *Host) Delete(ctx context.Context, name string) error {
	if err := h.call(ctx, http.MethodDelete, instancePath(name), nil, "", nil); err != nil {
		return err
	}
	for {
		err := h.call(ctx, http.MethodGet, instancePath(name)+"?wait=gone", nil, "", nil)
		if p, ok := errors.AsType[*Problem](err); ok && p.Code == "not_found" {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Create makes an instance. image is nil for built-in images; inputs holds
// every input of the launch document.
func (h *Host) Create(ctx context.Context, r CreateRequest, image io.Reader, inputs map[string]io.Reader) (compute.Instance, error) {
	return h.sendForm(ctx, http.MethodPost, "/v1/instances", r, image, inputs)
}

// Update replaces what the instance called r.Name runs, and starts it again if it ran;
// see [compute.Supervisor.Update]. r.Start counts for nothing.
func (h *Host) Update(ctx context.Context, r CreateRequest, image io.Reader, inputs map[string]io.Reader) (compute.Instance, error) {
	return h.sendForm(ctx, http.MethodPut, instancePath(r.Name), r, image, inputs)
}

func (h *Host) sendForm(ctx context.Context, method, path string, r CreateRequest, image io.Reader, inputs map[string]io.Reader) (compute.Instance, error) {
	pr, pw := io.Pipe()
	form := multipart.NewWriter(pw)
	go func() { pw.CloseWithError(writeForm(form, r, image, inputs)) }()
	defer func() { _ = pr.Close() }()
	var i compute.Instance
	err := h.call(ctx, method, path, pr, form.FormDataContentType(), &i)
	return i, err
}

func writeForm(form *multipart.Writer, r CreateRequest, image io.Reader, inputs map[string]io.Reader) error {
	part := func(name string, src io.Reader) error {
		w, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q", name)}})
		if err == nil {
			_, err = io.Copy(w, src)
		}
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := part("create", bytes.NewReader(b)); err != nil {
		return err
	}
	if image != nil {
		if err := part("image", image); err != nil {
			return err
		}
	}
	for _, name := range r.Spec.Launch.Inputs {
		if inputs[name] == nil {
			return fmt.Errorf("input %q was not given", name)
		}
		if err := part("input:"+name, inputs[name]); err != nil {
			return err
		}
	}
	return form.Close()
}

// Logs returns the console log as JSON lines (shim.LogLine); with follow it
// goes on until the instance has ended. Close it.
func (h *Host) Logs(ctx context.Context, name string, follow bool) (io.ReadCloser, error) {
	path := instancePath(name) + "/logs"
	if follow {
		path += "?follow=1"
	}
	return h.stream(ctx, path)
}

// Output returns an output of an instance that has ended. Close it.
func (h *Host) Output(ctx context.Context, name, output string) (io.ReadCloser, error) {
	return h.stream(ctx, instancePath(name)+"/outputs/"+url.PathEscape(output))
}

// Evidence asks a running instance for evidence over a nonce of 16 to 64 bytes;
// its report data is agent.DescribeBinding.
func (h *Host) Evidence(ctx context.Context, name string, nonce []byte) (tee.Evidence, error) {
	var ev tee.Evidence
	err := h.call(ctx, http.MethodGet, instancePath(name)+"/evidence?nonce="+base64.RawURLEncoding.EncodeToString(nonce), nil, "", &ev)
	return ev, err
}

func instancePath(name string) string { return "/v1/instances/" + url.PathEscape(name) }

func (h *Host) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := h.do(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (h *Host) call(ctx context.Context, method, path string, body io.Reader, contentType string, into any) error {
	resp, err := h.do(ctx, method, path, body, contentType)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decode(resp.Body, into)
}

func (h *Host) do(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	return send(ctx, h.http, method, "http://host"+path, body, contentType)
}

// maxReply bounds a JSON answer in bytes.
const maxReply = 64 << 20

func decode(r io.Reader, into any) error {
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(r, maxReply)).Decode(into); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// send returns the response of a success; anything else is an error.
func send(ctx context.Context, c *http.Client, method, u string, body io.Reader, contentType string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL says nothing that the caller does not know
		}
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer func() { _ = resp.Body.Close() }()
		return nil, problem.Read(resp)
	}
	return resp, nil
}

// dialTimeout bounds connecting and proving.
const dialTimeout = 20 * time.Second
