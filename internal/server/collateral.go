package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
)

// Times of the courier.
const (
	retryNode     = time.Second      // until the node is asked again after it did not answer
	lookAgain     = 2 * time.Second  // between looks at what was imported, and for what is due
	fetchTimeout  = 30 * time.Second // for one platform
	fetchInterval = time.Minute      // between two tries for one thing
)

// courier carries what vendors publish to the node, which has no network. It
// fetches what the node asks for and what is about to go stale, keeps it in a
// store, and brings the node what the store has: also what a person imported
// there. No request waits for it.
type courier struct {
	dir     string
	sources *collateral.Sources // nil: nothing is fetched
	node    *http.Client
	logger  *slog.Logger
	now     func() time.Time

	store  *collateral.Store
	opened time.Time            // the directory's time when store was opened
	tried  map[string]time.Time // when something was last fetched in vain
}

func (h *Host) newCourier() *courier {
	dir := compute.Dir(filepath.Join(h.paths.Instances(), compute.NodeName))
	dial := func(context.Context, string, string) (net.Conn, error) { return shim.Dial(dir, compute.HostPort) }
	return &courier{
		dir: h.paths.Collateral(), sources: h.cfg.Sources, logger: h.logger, now: time.Now, tried: map[string]time.Time{},
		node: &http.Client{Transport: &http.Transport{DialContext: dial}},
	}
}

// run goes on until ctx ends.
func (c *courier) run(ctx context.Context) {
	wanted := make(chan []collateral.Platform)
	var listener sync.WaitGroup
	listener.Go(func() { c.listen(ctx, wanted) })
	defer listener.Wait()
	brought := map[string]bool{} // digests that this node has
	for ctx.Err() == nil {
		var asked []collateral.Platform
		select {
		case <-ctx.Done():
			return
		case asked = <-wanted:
			if asked == nil {
				brought = map[string]bool{} // the node is another process now
			}
		case <-time.After(lookAgain):
		}
		if err := c.round(ctx, asked, brought); err != nil {
			c.logger.WarnContext(ctx, "collateral", slog.Any("error", err))
		}
	}
}

// listen asks the node, again and again, what it wants; nil means that it could
// not be asked.
func (c *courier) listen(ctx context.Context, wanted chan<- []collateral.Platform) {
	lost := true
	for ctx.Err() == nil {
		p, err := c.wanted(ctx)
		if err != nil {
			lost = true
			pause(ctx, retryNode)
			continue
		}
		if lost {
			lost = false
			send(ctx, wanted, nil)
		}
		if len(p) > 0 {
			send(ctx, wanted, p)
		}
	}
}

func send(ctx context.Context, to chan<- []collateral.Platform, p []collateral.Platform) {
	select {
	case to <- p:
	case <-ctx.Done():
	}
}

func (c *courier) wanted(ctx context.Context) ([]collateral.Platform, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/collateral/wanted", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.node.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node answers %s", resp.Status)
	}
	var p []collateral.Platform
	return p, json.NewDecoder(io.LimitReader(resp.Body, collateral.MaxBundle)).Decode(&p)
}

// round fetches what was asked for and what is due, and brings the node what it
// does not have.
func (c *courier) round(ctx context.Context, asked []collateral.Platform, brought map[string]bool) error {
	if err := c.open(); err != nil {
		return err
	}
	c.fetch(ctx, asked)
	var news []collateral.Item
	for _, i := range c.store.Items() {
		if !brought[i.Digest+string(i.Kind)+i.Name] {
			news = append(news, i)
		}
	}
	if len(news) == 0 {
		return nil
	}
	if err := c.bring(ctx, news); err != nil {
		return err
	}
	for _, i := range news {
		brought[i.Digest+string(i.Kind)+i.Name] = true
	}
	return nil
}

// open opens the store, again if its directory has changed: a person may have
// imported something.
func (c *courier) open() error {
	info, err := os.Stat(c.dir)
	if err == nil && c.store != nil && info.ModTime().Equal(c.opened) {
		return nil
	}
	store, err := collateral.OpenStore(c.dir)
	if err != nil {
		return err
	}
	if info, err = os.Stat(c.dir); err != nil {
		return err
	}
	c.store, c.opened = store, info.ModTime()
	return nil
}

// fetch adds to the store. What fails is tried again later: what is there stays
// good until its next update.
func (c *courier) fetch(ctx context.Context, asked []collateral.Platform) {
	if c.sources == nil {
		return
	}
	for _, p := range asked {
		if len(p.Missing(c.store.Items(), c.now())) == 0 || !c.mayTry(p.String()) {
			continue
		}
		c.keep(ctx, p.String(), func(ctx context.Context) ([]collateral.Item, error) { return c.sources.Fetch(ctx, p) })
	}
	for _, i := range c.store.Items() {
		if name := string(i.Kind) + " " + i.Name; i.Due(c.now()) && c.mayTry(name) {
			c.keep(ctx, name, func(ctx context.Context) ([]collateral.Item, error) {
				fresh, err := c.sources.Refresh(ctx, i)
				return []collateral.Item{fresh}, err
			})
		}
	}
}

func (c *courier) mayTry(name string) bool {
	now := c.now()
	if now.Sub(c.tried[name]) < fetchInterval {
		return false
	}
	if len(c.tried) > collateral.MaxItems {
		clear(c.tried)
	}
	c.tried[name] = now
	return true
}

func (c *courier) keep(ctx context.Context, name string, fetch func(context.Context) ([]collateral.Item, error)) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	items, err := fetch(ctx)
	if err == nil {
		err = c.store.Add(items...)
	}
	if err != nil {
		c.logger.WarnContext(ctx, "collateral not fetched", slog.String("of", name), slog.Any("error", err))
		return
	}
	c.logger.InfoContext(ctx, "collateral fetched", slog.String("of", name))
}

func (c *courier) bring(ctx context.Context, items []collateral.Item) error {
	b, err := json.Marshal(items)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://node/collateral", bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := c.node.Do(req)
	if err != nil {
		return fmt.Errorf("bring the node collateral: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("bring the node collateral: it answers %s", resp.Status)
	}
	return nil
}
