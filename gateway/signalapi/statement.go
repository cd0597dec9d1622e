package signalapi

import (
	"encoding/binary"
	"time"
)

// statementLabel separates this signature from any other use of the host's identity key.
const statementLabel = "wavry certificate v1\x00"

// CertificateStatement is the bytes a host signs: label, u16 length and bytes of the session id, expiry as u64 Unix seconds,
// u8 number of hashes, then the hashes, 32 bytes each. All integers are big-endian.
func CertificateStatement(session string, expiry time.Time, hashes [][]byte) []byte {
	b := append([]byte(nil), statementLabel...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(session)))
	b = append(b, session...)
	b = binary.BigEndian.AppendUint64(b, uint64(expiry.Unix()))
	b = append(b, byte(len(hashes)))
	for _, h := range hashes {
		b = append(b, h...)
	}
	return b
}
