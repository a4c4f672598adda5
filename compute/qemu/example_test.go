package qemu_test

import (
	"fmt"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/qemu"
	"github.com/cloister-cc/cloister/tee/launch"
)

func ExampleSizeOf() {
	d := launch.New(launch.Wasm, []byte("(the module's bytes)"))
	d.MemoryMiB = 512
	size, err := qemu.SizeOf(compute.Spec{Launch: d})
	fmt.Println(size.VCPUs, size.MemoryMiB, err)
	// Output: 1 704 <nil>
}

// What a machine will have measured, before there is one.
func ExampleDriver_Expect() {
	d := launch.New(launch.Wasm, []byte("(the module's bytes)"))
	e, err := qemu.New(qemu.Config{}).Expect(compute.Spec{Launch: d})
	if err != nil {
		fmt.Println(err) // what is missing, and the command that gets it
		return
	}
	fmt.Println("measurement:", e.Measurement)
}
