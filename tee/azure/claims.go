package azure

import (
	"maps"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// claimsFrom puts the layers together.
func claimsFrom(kind tee.Kind, hardware tee.Claims, runtime *runtimeData, quote *tpm.Quote, proven tpm.Banks, facts *eventlog.Facts) tee.Claims {
	id, _ := runtime.settings[vmIDClaim].(string)
	c := tee.Claims{
		TEE:         kind,
		Simulated:   hardware.Simulated,
		Debug:       hardware.Debug,
		Measurement: hardware.Measurement,
		ReportData:  quote.ExtraData,
		InstanceID:  id,
		Platform:    hardware.Platform,
		TCB:         hardware.TCB,
		Vendor: map[string]any{
			"hardware":         hardware.Vendor,
			"vm_configuration": runtime.settings,
			"user_data":        runtime.userData,
			"pcrs":             proven.Claims(),
			"pcr_measurement":  tpm.Measurement(proven).String(),
			"clock":            quote.Clock,
			"reset_count":      uint64(quote.ResetCount),
			"restart_count":    uint64(quote.RestartCount),
			"safe":             quote.Safe,
			"firmware_version": quote.FirmwareVersion,
			"event_log":        facts != nil,
		},
	}
	if facts != nil {
		c.Debug = c.Debug || facts.Debug
		maps.Copy(c.Vendor, facts.Claims())
	}
	return c
}
