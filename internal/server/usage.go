package server

import (
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
)

// usage says what each running instance costs this host.
func (h *Host) usage(w http.ResponseWriter, _ *http.Request) error {
	var owners []int
	running := map[string]int{}
	for _, i := range h.supervisor.List() {
		if pid := i.Status.ShimPID; pid > 0 && !i.Status.State.Final() {
			running[i.Name] = pid
			owners = append(owners, pid)
		}
	}
	all, err := compute.UsageOf(owners)
	if err != nil {
		return err
	}
	out := client.Usage{At: time.Now().UTC(), Instances: map[string]compute.Usage{}}
	for name, pid := range running {
		if u, there := all[pid]; there {
			out.Instances[name] = u
		}
	}
	return reply(w, out)
}
