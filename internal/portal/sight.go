package portal

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Seen says how much of something the host sees.
type Seen string

// What the host can see of something. The words are shown as they are.
const (
	SeenClear  Seen = "in clear"
	SeenNames  Seen = "names only"
	SeenSizes  Seen = "sizes and times"
	SeenHidden Seen = "no"
)

// Sight is one thing about an instance, and what the host sees of it.
type Sight struct {
	What string
	Seen Seen
	// Why says what keeps it from the host, or what does not.
	Why string
	// Changes says whether the host can also change it.
	Changes string
}

// Sights says, thing by thing, what the host of an instance sees of it. Of a TEE
// that it does not know, it says the worst.
func Sights(i compute.Instance) []Sight {
	d := i.Spec.Launch
	open, why := memory(i)
	inside := SeenHidden
	if open {
		inside = SeenClear
	}
	list := []Sight{
		{"Name, id, state, times, restart policy", SeenClear, "The host keeps them.", "yes, nobody believes them"},
		{"Launch document: arguments, environment, names of everything", SeenClear, "It is measured, not secret. Never put a secret into an argument or a variable.", "no, its digest is in the evidence"},
		{"The program", SeenClear, "The image is a file on this host.", "no, its digest is in the launch document"},
	}
	if len(d.OperatorEnv) > 0 {
		list = append(list, Sight{"Values of " + strings.Join(d.OperatorEnv, ", "), SeenClear, "The host chooses the values of operator environment variables.", "yes, only their names are measured"})
	}
	if len(d.Inputs) > 0 {
		list = append(list, Sight{"Inputs: " + strings.Join(d.Inputs, ", "), SeenClear, "They are stored on this host just as they were given: encrypted if their owner encrypted them, in clear otherwise.", "yes, only their names are measured"})
	}
	if len(d.Outputs) > 0 {
		list = append(list, Sight{"Outputs: " + strings.Join(d.Outputs, ", "), SeenClear, "They are stored on this host just as the program writes them.", "yes, once they are written"})
	}
	list = append(list, Sight{"State directory", SeenClear, "The host owns the files. What the program sealed before it wrote it, the host cannot read unless it can read memory.", "yes; sealed state that was changed does not open"})
	list = append(list, output(d.Logs, open, why)...)
	if d.Role == launch.RoleNode {
		list = append(list, Sight{"Keys and policies of all owners", inside, "On disk they are sealed to the node's measurement. In use they are in memory. " + why, changes(open)})
	}
	if len(d.Secrets) > 0 {
		list = append(list,
			Sight{"Which secrets it gets: " + secretNames(d.Secrets), SeenNames, "Names of keys are in the launch document.", "no, they are measured"},
			Sight{"Values of its secrets", inside, "They travel encrypted to a key that was made inside, and are in memory in use. " + why, changes(open)})
	}
	list = append(list, Sight{"Memory while the program runs", inside, why, changes(open)})
	if len(d.Ports) > 0 {
		list = append(list, Sight{fmt.Sprintf("Connections to %s", portList(d.Ports)), SeenClear, "The host carries the bytes. It reads what is not encrypted by the program itself, or by TLS that ends inside.", "yes; TLS notices"})
	}
	return append(list,
		Sight{"Evidence and attestation results", SeenClear, "They are signed and not secret.", "no, a signature notices"},
		Sight{"Sizes, times, processor use, exit status", SeenSizes, "Traffic analysis is not hidden on any TEE.", "it can delay or stop everything"})
}

// memory reports whether the host can read an instance's memory, and why.
func memory(i compute.Instance) (open bool, why string) {
	switch {
	case i.Simulated:
		return true, "The TEE is simulated: whoever runs this host can read and change everything inside."
	case i.Spec.Launch.Debug:
		return true, "A debug instance can be read and changed by its host, by design."
	}
	switch i.Spec.TEE {
	case tee.SNP, tee.TDX, tee.SGX, tee.AzureSNP, tee.AzureTDX, tee.ArmCCA:
		return false, "Memory is encrypted, or kept apart, by the processor. Believe that once its evidence has met a policy of your own, not because this page says so."
	case tee.Nitro:
		return false, "Memory is kept from this host by the hypervisor of AWS, which you trust instead. Believe it once the evidence has met a policy of your own."
	case tee.TPM:
		return true, "A TPM says what was booted. It does not encrypt memory: the hypervisor can read and change all of it."
	default:
		return true, "Nothing is known to protect the memory of this TEE."
	}
}

func changes(open bool) string {
	if open {
		return "yes"
	}
	return "no"
}

// output says which of the program's output the launch document lets out.
func output(level launch.Logs, open bool, why string) []Sight {
	var let, kept string
	switch level {
	case launch.LogsNone:
		kept = "What it prints"
	case launch.LogsStderr:
		let, kept = "What it prints on standard error", "What it prints on standard output"
	case launch.LogsAll:
		let = "What it prints, on standard output and standard error"
	default:
		let = "What it prints"
	}
	var list []Sight
	if let != "" {
		list = append(list, Sight{let, SeenClear, "The launch document lets it out (logs: " + string(level) + ").", "yes, nobody believes logs"})
	}
	if kept != "" {
		s := Sight{kept, SeenHidden, "The launch document keeps it inside (logs: " + string(level) + "): the agent drops it and nothing is stored.", "no"}
		if open {
			s.Seen, s.Why = SeenClear, s.Why+" While it is in memory: "+strings.ToLower(why[:1])+why[1:]
		}
		list = append(list, s)
	}
	return list
}

func secretNames(list []launch.Secret) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Name + " (" + s.Key + ")"
	}
	return strings.Join(names, ", ")
}

func portList(ports []uint16) string {
	text := make([]string, len(ports))
	for i, p := range ports {
		text[i] = fmt.Sprint(p)
	}
	if len(text) == 1 {
		return "port " + text[0]
	}
	return "ports " + strings.Join(text, ", ")
}

type sightPage struct {
	Sights []Sight
	Open   bool // the host can read memory
	Why    string
	Inside []string // what the picture has inside the TEE
	Beside []string // and outside
}

func (p *Portal) sight(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	b := sightPage{Sights: Sights(i), Inside: []string{"memory"}, Beside: []string{"names and times", "image", "launch document"}}
	b.Open, b.Why = memory(i)
	d := i.Spec.Launch
	for _, part := range []struct {
		there  bool
		name   string
		inside bool
	}{
		{d.Role == launch.RoleNode, "keys and policies", true},
		{len(d.Secrets) > 0, "secrets", true},
		{d.Logs != launch.LogsAll, "output kept", true},
		{len(d.Inputs) > 0, "inputs", false},
		{len(d.Outputs) > 0, "outputs", false},
		{d.Logs != launch.LogsNone, "logs", false},
		{len(d.Ports) > 0, "traffic", false},
		{len(d.OperatorEnv) > 0, "operator values", false},
	} {
		switch {
		case part.there && part.inside:
			b.Inside = append(b.Inside, part.name)
		case part.there:
			b.Beside = append(b.Beside, part.name)
		}
	}
	return p.tab(w, r, i, "host", "what the host can see", 0, b)
}
