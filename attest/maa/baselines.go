package maa

import (
	"fmt"
	"strconv"

	"github.com/cloister-cc/cloister/attest/azurepolicy"
	"github.com/cloister-cc/cloister/tee"
)

// azureDefault is the baseline of policies that name none: whatever Intel says at
// present, for that is what a node has.
const azureDefault = "azuredefault"

// baseline compares the number of Intel's TCB evaluation with the one that the
// policy names, which is the least.
func baseline(value any, c tee.Claims) error {
	text, _ := value.(string)
	if text == azureDefault {
		return nil
	}
	want, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return refuse(azurepolicy.PropertyTCBIdentifier, azureDefault+", or the number of a TCB evaluation", "another", "")
	}
	got, ok := c.Vendor["tcb_evaluation_data_number"].(uint64)
	if !ok || got < want {
		return refuse(azurepolicy.PropertyTCBIdentifier, "TCB evaluation "+text+" or later", fmt.Sprint(c.Vendor["tcb_evaluation_data_number"]), "")
	}
	return nil
}

// tcbBaseline is an element of the answer to a question for baselines. Those of its
// members that are left out would be Microsoft's word: when a baseline was
// released, and which versions of the platform software it needs.
type tcbBaseline struct {
	Identifier string `json:"tcbIdentifier"`
	Number     uint64 `json:"tcbEvaluationDataNumber,omitempty"` // of Intel's TCB evaluation data; the least that is accepted
	Selected   bool   `json:"isSelectedTcb"`
}

// baselines lists the default and, where the policy names another for whatever
// comes, that one, and says which of them counts. What a policy wants under a
// condition alone is not in the list. Only SGX has baselines.
func (s *Service) baselines(c call, typ string) (any, error) {
	if err := knownType(typ); err != nil {
		return nil, err
	}
	list := []tcbBaseline{}
	if p := c.provider.policies[typ]; p != nil && attestationTypes()[typ] == tee.SGX {
		named, _ := p.rules.Configuration()[azurepolicy.PropertyTCBIdentifier].(string)
		number, err := strconv.ParseUint(named, 10, 32)
		list = append(list, tcbBaseline{Identifier: azureDefault, Selected: err != nil})
		if err == nil {
			list = append(list, tcbBaseline{Identifier: named, Number: number, Selected: true})
		}
	}
	return map[string]any{"tcbBaselines": list}, nil
}
