// Package eif reads and writes enclave image files, from which AWS Nitro Enclaves
// start, and computes the registers that the evidence of such an enclave will have:
// PCR 0, of the whole image, which is the measurement of package tee/nitro; PCR 1, of
// kernel and first RAM disk; PCR 2, of the other RAM disks; and PCR 8, of the
// certificate that signed it.
//
// The source is the specification in the repository aws-nitro-enclaves-image-format
// (version 4 of the format, 2024-06-21). Digests were compared with those that AWS's
// own builder computes.
//
// # What it protects against
//
// Reference values that come from somebody else than who built the image: whoever has
// the image has its registers, on any machine. Images whose parts are not what their
// header says, and signatures that are not of the image.
//
// # What it does not protect against
//
// Images that are measured and do something else than they should. In an enclave that
// was started in debug mode all these registers are zero, whatever the image.
package eif
