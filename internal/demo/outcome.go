package demo

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hunt plants a control and then searches everything that the host has.
func (d *demo) hunt(ctx context.Context) error {
	d.step("planting a control secret on the host")
	c, err := plant(ctx, d.host)
	if err != nil {
		return fmt.Errorf("plant control: %w", err)
	}
	defer c.close()
	d.step("searching the host's disk, memory, command lines, environments, logs and traffic for secrets")
	h := newHunt()
	h.add("control", c.secret, true)
	for _, o := range []*hospital{d.a, d.b} {
		h.add("hospital "+o.letter+"'s data key", o.key, false)
		h.add("a patient of hospital "+o.letter, []byte(o.marker), false)
	}
	// The model's first numbers occur nowhere else; all of the result is longer
	// than a search is good for.
	at := bytes.Index(d.plaintext, []byte(`"intercept"`))
	h.add("the result", d.plaintext[at:at+96], false)
	processes, err := d.host.processes()
	if err != nil {
		return err
	}
	processes[c.child.Process.Pid] = "planted"
	for pid, name := range processes {
		h.process(pid, name)
	}
	isLog := func(name string) bool { return strings.Contains(name, ".log") && name != "state.log" }
	h.files("disk", d.host.paths.Data, isLog)
	h.files("traffic", d.host.traffic, func(string) bool { return false })
	d.report.Canary = h.finish()
	return nil
}

// collectReceipts has each hospital fetch and check what its key was used for.
func (d *demo) collectReceipts(ctx context.Context) error {
	d.step("collecting and verifying receipts")
	dir := d.cfg.Receipts
	if err := os.RemoveAll(dir); err != nil { // of an earlier demo
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d.report.ReceiptDir = dir
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), d.host.info.Root, 0o600); err != nil {
		return err
	}
	for _, h := range []*hospital{d.a, d.b} {
		list, err := h.node.Receipts(ctx, 0)
		if err != nil {
			return err
		}
		for _, r := range list {
			signed, err := h.node.Receipt(ctx, r.Number) // verified by the client
			if err != nil {
				return fmt.Errorf("receipt %d: %w", r.Number, err)
			}
			out := Receipt{Number: r.Number, Action: r.Action, Key: r.Key, File: fmt.Sprintf("receipt-%d.json", r.Number), Verified: true}
			if err := writeJSON(filepath.Join(dir, out.File), signed); err != nil {
				return err
			}
			d.report.Receipts = append(d.report.Receipts, out)
		}
	}
	slices.SortFunc(d.report.Receipts, func(a, b Receipt) int { return cmp.Compare(a.Number, b.Number) })
	return nil
}

// What the result must reach. The data set, the split and the arithmetic are
// fixed, so this is about the whole chain being intact, not about luck.
const (
	wantPatients = 569
	wantCorrect  = 0.93 // of the tested patients, by the joint model
)

// judge decides whether everything held.
func (d *demo) judge() {
	r := &d.report
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	j := r.Result.Joint
	if r.Result.Patients != wantPatients || float64(j.Correct) < wantCorrect*float64(j.Tested) || j.AUC <= r.Result.Alone.AUC {
		problem("the joint result is not better than what one hospital can do alone")
	}
	if want := len(d.attacks()); len(r.Attacks) != want {
		problem("%d attacks were made, want %d", len(r.Attacks), want)
	}
	for _, a := range r.Attacks {
		if !a.Refused {
			problem("attack %q: want refusal %s, got %s: %s", a.Name, a.Want, a.Code, a.Detail)
		}
	}
	for _, f := range r.Canary.Found {
		problem("the host has %s", f)
	}
	for _, u := range r.Canary.Unsearched {
		problem("not searched: %s", u)
	}
	if !r.Canary.ControlFound {
		problem("the hunt did not find its own planted secret everywhere: it proves nothing")
	}
	released := 0
	for _, x := range r.Receipts {
		if x.Action == "release" {
			released++
		}
	}
	if released != 2 {
		problem("want receipts of exactly two releases, got %d", released)
	}
	r.OK = len(r.Problems) == 0
}
