package azurepolicy

// The tables of this file say which claim of ours is which of Microsoft's. The
// names on the left are those of "Claim sets", "Examples of an attestation
// token" and "EAT profile for TDX"; those on the right are of the rooms under
// tee/.

// ownClaims are the claims that every kind has.
func ownClaims() []mapping {
	return []mapping{
		{claim: ownPrefix + "tee", path: "tee"},
		{claim: ClaimSimulated, path: "simulated"},
		{claim: ClaimDebug, path: "debug"},
		{claim: ownPrefix + "measurement", path: "measurement"},
		{claim: ownPrefix + "launch-digest", path: "launch_digest"},
		{claim: ownPrefix + "signer", path: "signer"},
		{claim: ownPrefix + "product", path: "product"},
		{claim: ownPrefix + "svn", path: "svn"},
		{claim: ownPrefix + "report-data", path: "report_data"},
		{claim: ownPrefix + "instance-id", path: "instance_id"},
		{claim: ownPrefix + "platform", path: "platform"},
		{claim: ownPrefix + "tcb-status", path: "tcb_status"},
		{claim: ownPrefix + "advisory", path: ".advisories"}, // one claim for each
		{claim: ownPrefix + "tcb-evaluation-data-number", path: ".tcb_evaluation_data_number", convert: small},
	}
}

// debugClaims are the claims that a policy can name to say that it knows of
// debug.
func debugClaims() []string {
	return []string{
		ClaimDebug, "x-ms-sgx-is-debuggable", "x-ms-sevsnpvm-is-debuggable", "tdx_td_attributes_debug", "dbgstat",
		"$is-debuggable",
	}
}

func sgxClaims() []mapping {
	return []mapping{
		{claim: "x-ms-sgx-is-debuggable", path: "debug"},
		{claim: "x-ms-sgx-mrenclave", path: ".mrenclave"},
		{claim: "x-ms-sgx-mrsigner", path: ".mrsigner"},
		{claim: "x-ms-sgx-product-id", path: ".product_id"},
		{claim: "x-ms-sgx-svn", path: ".svn"},
		{claim: "x-ms-sgx-report-data", path: "report_data"},
		{claim: "x-ms-sgx-config-id", path: ".config_id"},
		{claim: "x-ms-sgx-config-svn", path: ".config_svn"},
		{claim: "x-ms-sgx-isv-extended-product-id", path: ".isv_ext_prod_id"},
		{claim: "x-ms-sgx-isv-family-id", path: ".isv_family_id"},
	}
}

// sgxDeprecated maps the oldest names to those of sgxClaims.
func sgxDeprecated() []mapping {
	return []mapping{
		{claim: "$is-debuggable", path: "x-ms-sgx-is-debuggable"},
		{claim: "$sgx-mrenclave", path: "x-ms-sgx-mrenclave"},
		{claim: "$sgx-mrsigner", path: "x-ms-sgx-mrsigner"},
		{claim: "$product-id", path: "x-ms-sgx-product-id"},
		{claim: "$svn", path: "x-ms-sgx-svn"},
		{claim: "$tee", path: "x-ms-attestation-type"},
	}
}

func snpClaims() []mapping {
	return []mapping{
		{claim: "x-ms-sevsnpvm-is-debuggable", path: "debug"},
		{claim: "x-ms-sevsnpvm-launchmeasurement", path: "measurement"},
		{claim: "x-ms-sevsnpvm-reportdata", path: "report_data"},
		{claim: "x-ms-sevsnpvm-reportid", path: "instance_id"},
		{claim: "x-ms-sevsnpvm-guestsvn", path: "svn"},
		{claim: "x-ms-sevsnpvm-vmpl", path: ".vmpl"},
		{claim: "x-ms-sevsnpvm-hostdata", path: ".host_data"},
		{claim: "x-ms-sevsnpvm-familyId", path: ".family_id"},
		{claim: "x-ms-sevsnpvm-imageId", path: ".image_id"},
		{claim: "x-ms-sevsnpvm-idkeydigest", path: ".id_key_digest"},
		{claim: "x-ms-sevsnpvm-authorkeydigest", path: ".author_key_digest"},
		{claim: "x-ms-sevsnpvm-migration-allowed", path: ".policy.migrate_ma"},
		{claim: "x-ms-sevsnpvm-smt-allowed", path: ".policy.smt"},
		// The reported TCB is the one that the signing certificate vouches for.
		{claim: "x-ms-sevsnpvm-bootloader-svn", path: ".reported_tcb.bootloader"},
		{claim: "x-ms-sevsnpvm-tee-svn", path: ".reported_tcb.tee"},
		{claim: "x-ms-sevsnpvm-snpfw-svn", path: ".reported_tcb.snp"},
		{claim: "x-ms-sevsnpvm-microcode-svn", path: ".reported_tcb.microcode"},
	}
}

func tdxClaims() []mapping {
	return []mapping{
		{claim: "attester_tcb_status", path: "tcb_status"},
		{claim: "dbgstat", path: "debug", convert: dbgstat},
		{claim: "tdx_report_data", path: "report_data"},
		{claim: "tdx_mrtd", path: ".mr_td"},
		{claim: "tdx_mrseam", path: ".mr_seam"},
		{claim: "tdx_mrsignerseam", path: ".mr_signer_seam"},
		{claim: "tdx_mrconfigid", path: ".mr_config_id"},
		{claim: "tdx_mrowner", path: ".mr_owner"},
		{claim: "tdx_mrownerconfig", path: ".mr_owner_config"},
		{claim: "tdx_rtmr0", path: ".rtmr0"},
		{claim: "tdx_rtmr1", path: ".rtmr1"},
		{claim: "tdx_rtmr2", path: ".rtmr2"},
		{claim: "tdx_rtmr3", path: ".rtmr3"},
		{claim: "tdx_seam_attributes", path: ".seam_attributes", convert: littleEndianHex},
		{claim: "tdx_seamsvn", path: ".tee_tcb_svn", convert: seamSVN},
		{claim: "tdx_tee_tcb_svn", path: ".tee_tcb_svn"},
		{claim: "tdx_xfam", path: ".xfam", convert: littleEndianHex},
		{claim: "tdx_td_attributes", path: ".td_attributes.bits", convert: littleEndianHex},
		{claim: "tdx_td_attributes_debug", path: ".td_attributes.debug"},
		{claim: "tdx_td_attributes_key_locker", path: ".td_attributes.kl"},
		{claim: "tdx_td_attributes_perfmon", path: ".td_attributes.perfmon"},
		{claim: "tdx_td_attributes_protection_keys", path: ".td_attributes.pks"},
		{claim: "tdx_td_attributes_septve_disable", path: ".td_attributes.sept_ve_disable"},
	}
}

// azureClaims are those of an Azure VM's vTPM ("Guest attestation for
// confidential VMs"). What needs the boot log of Windows to be read (boot and
// kernel debugging, test signing) is not told yet and so not there.
func azureClaims() []mapping {
	return []mapping{
		{claim: "secureboot", path: ".secure_boot"}, // as the log proves it, not as the settings have it
		{claim: "x-ms-azurevm-vmid", path: ".vm_configuration.vm_id"},
		{claim: "x-ms-azurevm-attested-pcrs", path: ".pcrs", convert: pcrIndexes}, // one claim for each
		{claim: "pcrs", path: ".pcrs", convert: pcrsJSON},
	}
}

// tpmClaims are those of a TPM ("Claim sets", TPM attestation). The events of a
// log are not here in the form that the samples of version 1.2 query.
func tpmClaims() []mapping {
	return []mapping{
		{claim: "secureBootEnabled", path: ".secure_boot"},
		{claim: "aikValidated", path: ".ak_trust", convert: certified},
		{claim: "pcrs", path: ".pcrs", convert: pcrsJSON},
	}
}
