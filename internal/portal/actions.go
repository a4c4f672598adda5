package portal

import (
	"net/http"
	"net/url"

	"github.com/cloister-cc/cloister/compute"
)

// action is what a person can do to an instance.
type action struct {
	Verb  string
	Title string
	Says  string // what will happen
	Risky bool
	does  func(Host, string) error
}

// actionOf returns the action that a path names, for this instance.
func actionOf(verb string, i compute.Instance) (action, bool) {
	node := i.Name == compute.NodeName
	switch verb {
	case "start":
		return action{Verb: verb, Title: "Start", Says: "It starts from its launch document: it is measured and attested again, and gets its secrets only if its evidence still meets their policies.", does: Host.Start}, true
	case "stop":
		says := "Its program is ended and the lease of its secrets is over. Its state directory stays, and it can be started again."
		if node {
			says = "This is the node: while it is stopped no instance gets secrets, no lease is renewed, and programs end with their leases. Its keys and policies stay."
		}
		return action{Verb: verb, Title: "Stop", Says: says, Risky: true, does: Host.Stop}, true
	case "delete":
		return action{Verb: verb, Title: "Delete", Says: "It is ended, and everything of it on this host is removed: image, inputs, outputs, logs and its state directory. This cannot be undone.", Risky: true, does: Host.Delete}, !node
	default:
		return action{}, false
	}
}

func (p *Portal) chosen(r *http.Request) (compute.Instance, action, error) {
	i, err := p.instance(r)
	if err != nil {
		return i, action{}, err
	}
	a, ok := actionOf(r.PathValue("action"), i)
	if !ok {
		return i, a, errNoPage
	}
	return i, a, nil
}

// confirm asks before anything is done.
func (p *Portal) confirm(w http.ResponseWriter, r *http.Request) error {
	i, a, err := p.chosen(r)
	if err != nil {
		return err
	}
	return p.show(w, r, "confirm", frame{Title: a.Title + " " + Visible(i.Name), Section: "instances", Instance: &i}, a)
}

func (p *Portal) act(w http.ResponseWriter, r *http.Request) error {
	i, a, err := p.chosen(r)
	if err != nil {
		return err
	}
	if err := a.does(p.cfg.Host, i.Name); err != nil {
		return err
	}
	to := "/instances/" + url.PathEscape(i.Name)
	if a.Verb == "delete" {
		to = "/instances"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}
