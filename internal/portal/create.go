package portal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// createPath is where instances are created: the one path that takes a file.
const createPath = "/create"

// Bounds of a create form.
const (
	maxUpload   = launch.MaxImage + 1<<20 // bytes of the whole body
	maxInMemory = 1 << 20                 // bytes of a file that is not kept on disk meanwhile
)

type createPage struct {
	draft
	Kinds    []kindChoice
	MaxImage int
	// Whole is what is wrong with the form as a whole.
	Whole *fault
}

// kindChoice is a TEE to choose.
type kindChoice struct {
	Kind  tee.Kind
	Label string
}

func (p *Portal) createForm(w http.ResponseWriter, r *http.Request) error {
	return p.showDraft(w, r, http.StatusOK, newDraft(p.cfg.Host.Kinds()), nil)
}

func (p *Portal) showDraft(w http.ResponseWriter, r *http.Request, status int, d draft, whole *fault) error {
	b := createPage{draft: d, MaxImage: launch.MaxImage, Whole: whole}
	for _, k := range p.cfg.Host.Kinds() {
		text := string(k)
		switch k {
		case tee.Software:
			text += " (simulated): a sandboxed process"
		case tee.TPM:
			text += " (simulated): a virtual machine with an emulated TPM"
		default: // nobody who sees it mistakes the name of hardware
		}
		b.Kinds = append(b.Kinds, kindChoice{k, text})
	}
	return p.showWith(w, r, status, "create", frame{Title: "Create an instance", Section: "create"}, b)
}

func (p *Portal) create(w http.ResponseWriter, r *http.Request) error {
	err := r.ParseMultipartForm(maxInMemory) //nolint:gosec // the guard has bounded the body
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }()
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		d := newDraft(p.cfg.Host.Kinds())
		d.fault("image", fmt.Sprintf("it is larger than %d MiB", launch.MaxImage>>20), "give data as an input (cloister instance create --in), not inside the image")
		return p.showDraft(w, r, http.StatusRequestEntityTooLarge, d, nil)
	}
	if err != nil {
		return errForm
	}
	d := readDraft(url.Values(r.MultipartForm.Value))
	spec := d.spec(p.cfg.Host.Kinds())
	image, err := readImage(r.MultipartForm, &spec.Launch, d)
	if err != nil {
		return err
	}
	if image != nil {
		defer func() { _ = image.Close() }()
	}
	if len(d.Faults) > 0 {
		return p.showDraft(w, r, http.StatusUnprocessableEntity, d, nil)
	}
	i, err := p.cfg.Host.Create(r.Context(), compute.Create{Name: d.Name, Spec: spec, Image: image, Start: d.Start})
	switch {
	case errors.Is(err, compute.ErrExists):
		d.fault("name", "an instance of that name exists", "choose another name, or delete it first")
		return p.showDraft(w, r, http.StatusConflict, d, nil)
	case errors.Is(err, compute.ErrQuota):
		return p.showDraft(w, r, http.StatusForbidden, d, &fault{Text: err.Error(), Hint: "stop or delete another instance, or start the platform with another --quota"})
	case errors.Is(err, compute.ErrRefused):
		return p.showDraft(w, r, http.StatusUnprocessableEntity, d, &fault{Text: err.Error()})
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/instances/"+url.PathEscape(i.Name), http.StatusSeeOther)
	return nil
}

// readImage tells the kind of an uploaded image by its first bytes and puts its
// digest into the document. It returns nil where it noted a fault.
func readImage(form *multipart.Form, doc *launch.Document, d draft) (multipart.File, error) {
	uploads := form.File["image"]
	if len(uploads) != 1 || uploads[0].Size == 0 {
		d.fault("image", "no file was chosen, or it is empty", "choose a WebAssembly module or a static Linux executable")
		return nil, nil
	}
	if uploads[0].Size > launch.MaxImage {
		d.fault("image", fmt.Sprintf("it is larger than %d MiB", launch.MaxImage>>20), "give data as an input (cloister instance create --in), not inside the image")
		return nil, nil
	}
	f, err := uploads[0].Open()
	if err != nil {
		return nil, fmt.Errorf("open upload: %w", err)
	}
	fail := func(err error) (multipart.File, error) { return nil, errors.Join(err, f.Close()) }
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(fmt.Errorf("read upload: %w", err))
	}
	switch {
	case bytes.Equal(head[:n], []byte("\x00asm\x01\x00\x00\x00")):
		doc.Image.Kind = launch.Wasm
	case bytes.HasPrefix(head[:n], []byte("\x7fELF")):
		doc.Image.Kind = launch.ELF
	default:
		d.fault("image", "this is neither a WebAssembly module nor a Linux executable", "build with GOOS=wasip1 GOARCH=wasm, clang --target=wasm32-wasi, or CGO_ENABLED=0 go build")
		return fail(nil)
	}
	h := sha256.New()
	h.Write(head[:n])
	if _, err := io.Copy(h, f); err != nil {
		return fail(fmt.Errorf("read upload: %w", err))
	}
	doc.Image.Digest = h.Sum(nil)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fail(fmt.Errorf("read upload: %w", err))
	}
	return f, nil
}
