package azure

import (
	"net/http"
	"time"
)

// SetWait changes how long an attester waits for a report with its user data.
func SetWait(a *Attester, d time.Duration) { a.wait = d }

// Proxied reports whether requests could go through a proxy.
func Proxied(a *Attester) bool {
	t, ok := a.metadata.http.Transport.(*http.Transport)
	return !ok || t.Proxy != nil
}
