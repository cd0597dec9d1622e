package masterapi

import (
	"crypto/ed25519"
	"encoding/binary"
	"time"
)

// certificateTag separates these signatures from any other use of a host identity.
const certificateTag = "wavry certificate v1\x00"

// CertificateMessage is what a host's identity signs so that a viewer can trust the certificate hashes of its grant:
//
//	"wavry certificate v1\x00" | len(session) 2 bytes big endian | session | expiry, Unix seconds, 8 bytes big endian | number of hashes 1 byte | hashes, 32 bytes each
//
// The browser checks the same bytes (signalapi.CertificateStatement; a test of the host holds the two together). sessionID has at most 64 bytes; each hash has 32 bytes; the order of the hashes is that of the grant.
func CertificateMessage(hashes [][]byte, sessionID string, expiry time.Time) []byte {
	message := make([]byte, 0, len(certificateTag)+len(sessionID)+11+32*len(hashes))
	message = append(message, certificateTag...)
	message = binary.BigEndian.AppendUint16(message, uint16(len(sessionID)))
	message = append(message, sessionID...)
	message = binary.BigEndian.AppendUint64(message, uint64(expiry.Unix()))
	message = append(message, byte(len(hashes)))
	for _, h := range hashes {
		message = append(message, h...)
	}
	return message
}

// VerifyCertificate reports whether signature is identity's signature over these hashes for this session and expiry. Wrong lengths give false.
func VerifyCertificate(identity ed25519.PublicKey, signature []byte, hashes [][]byte, sessionID string, expiry time.Time) bool {
	if len(identity) != ed25519.PublicKeySize || len(sessionID) > MaxIDLen || len(hashes) == 0 || len(hashes) > MaxCertificates {
		return false
	}
	for _, h := range hashes {
		if len(h) != 32 {
			return false
		}
	}
	return ed25519.Verify(identity, CertificateMessage(hashes, sessionID, expiry), signature)
}
