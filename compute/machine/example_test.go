package machine_test

import (
	"fmt"

	"github.com/cloister-cc/cloister/compute/machine"
)

func Example() {
	if machine.IsFirst() { // of a virtual machine
		machine.Main() // does not return
	}
	fmt.Println("an ordinary process; in a machine this program is", machine.Path)
	// Output: an ordinary process; in a machine this program is /init
}
