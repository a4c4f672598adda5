//go:build ignore

// Generate builds examples/cohort for WASI and compresses it into assets/. The
// same Go release gives the same bytes everywhere.
package main

import (
	"bytes"
	"compress/gzip"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

func main() {
	dir, err := os.MkdirTemp("", "cohort-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	module := filepath.Join(dir, "cohort.wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", module, "../../examples/cohort")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(module)
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := z.Write(b); err != nil {
		log.Fatal(err)
	}
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}
	for name, content := range map[string][]byte{"cohort.wasm.gz": out.Bytes(), "cohort.goversion": []byte(runtime.Version() + "\n")} {
		if err := os.WriteFile(filepath.Join("assets", name), content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
