// Command cloister is confidential computing that anyone can run: one program
// that deploys TEE instances, verifies evidence, and releases secrets to proven
// code only. Run `cloister help`.
package main

import (
	"os"

	"github.com/cloister-cc/cloister/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
