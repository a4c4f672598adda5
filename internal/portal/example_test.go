package portal_test

import (
	"fmt"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/portal"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func ExampleSights() {
	i := compute.Instance{Spec: compute.Spec{TEE: tee.SNP, Launch: launch.New(launch.Wasm, []byte("image"))}}
	for _, s := range portal.Sights(i) {
		if s.What == "Memory while the program runs" {
			fmt.Println("on hardware:", s.Seen)
		}
	}
	i.Simulated = true
	for _, s := range portal.Sights(i) {
		if s.What == "Memory while the program runs" {
			fmt.Println("simulated:", s.Seen)
		}
	}
	// Output:
	// on hardware: no
	// simulated: in clear
}

func ExampleVisible() {
	fmt.Println(portal.Visible("invoice\u202efdp.exe \x1b[2J"))
	// Output: invoice⟨U+202E⟩fdp.exe ⟨U+001B⟩[2J
}
