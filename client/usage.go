package client

import (
	"context"
	"net/http"
	"time"

	"github.com/cloister-cc/cloister/compute"
)

// Usage is what the running instances cost their host at a moment.
type Usage struct {
	At        time.Time                `json:"at"`
	Instances map[string]compute.Usage `json:"instances"` // by name
}

// Usage returns what the running instances cost the host now. Two of them say how busy
// an instance was in between.
func (h *Host) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	err := h.call(ctx, http.MethodGet, "/v1/usage", nil, "", &u)
	return u, err
}
