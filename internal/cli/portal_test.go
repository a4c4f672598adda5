package cli

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// visitPortal is "portal login|replay|stranger FILE": it opens the login address
// in FILE as a browser does, and looks where that leads. "login" must get in,
// "replay" with the same address not, and "stranger" is refused the overview.
func visitPortal(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	c := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	base, want := "http://"+u.Host, http.StatusUnauthorized
	var resp *http.Response
	switch args[0] {
	case "login":
		want = http.StatusOK
		resp, err = c.PostForm(base+"/login", u.Query())
	case "replay":
		resp, err = c.PostForm(base+"/login", u.Query())
	default:
		resp, err = c.Get(base + "/")
	}
	ts.Check(err)
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		ts.Fatalf("%s: %s, want %d", args[0], resp.Status, want)
	}
}
