package client

import (
	"context"
	"net/http"
	"time"
)

// PortalLogin is the answer of POST /v1/portal/login: an address that signs a
// browser in to the web portal, once. It is a secret until it is used or expires.
type PortalLogin struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// PortalLogin returns a fresh login address of the platform's web portal.
func (h *Host) PortalLogin(ctx context.Context) (PortalLogin, error) {
	var l PortalLogin
	err := h.call(ctx, http.MethodPost, "/v1/portal/login", nil, "", &l)
	return l, err
}
