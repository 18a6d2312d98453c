package edge

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A record is one reading in the spool.
type record struct {
	seq     uint64
	source  string
	payload []byte
}

// The format of a record, all numbers big endian:
//
//	length  4 bytes  of what follows the checksum
//	check   4 bytes  CRC-32C of length and of what follows the checksum
//	version 1 byte   1
//	seq     8 bytes
//	source  1 byte of length, then text
//	payload the rest
const (
	recordHead    = 8
	recordVersion = 1
	recordFixed   = 1 + 8 + 1
	maxPayload    = 64 << 10
	maxBody       = recordFixed + 255 + maxPayload
)

var (
	errTorn    = errors.New("the record is not complete")
	errVersion = errors.New("the record has a version this program does not know")
)

func checksum(length, body []byte) uint32 {
	t := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(length, t), t, body)
}

// storable reports whether a record of this reading can be written.
func storable(source string, payload []byte) bool {
	return source != "" && len(source) <= 255 && len(payload) <= maxPayload
}

// appendRecord writes r, which must be storable.
func appendRecord(dst []byte, r record) []byte {
	head := len(dst)
	dst = append(dst, make([]byte, recordHead)...)
	dst = append(dst, recordVersion)
	dst = binary.BigEndian.AppendUint64(dst, r.seq)
	dst = append(dst, byte(len(r.source)))
	dst = append(dst, r.source...)
	dst = append(dst, r.payload...)
	body := dst[head+recordHead:]
	binary.BigEndian.PutUint32(dst[head:], uint32(len(body)))
	binary.BigEndian.PutUint32(dst[head+4:], checksum(dst[head:head+4], body))
	return dst
}

// decodeRecord reads the record at the front of b and returns its size. The
// payload is a view of b. Bytes that were cut off or damaged are errTorn.
func decodeRecord(b []byte) (record, int, error) {
	if len(b) < recordHead {
		return record{}, 0, errTorn
	}
	length := binary.BigEndian.Uint32(b)
	if length < recordFixed || length > maxBody || int(length) > len(b)-recordHead {
		return record{}, 0, errTorn
	}
	size := recordHead + int(length)
	body := b[recordHead:size:size]
	if checksum(b[:4], body) != binary.BigEndian.Uint32(b[4:]) {
		return record{}, 0, errTorn
	}
	if body[0] != recordVersion {
		return record{}, 0, errVersion
	}
	end := recordFixed + int(body[9])
	if body[9] == 0 || end > len(body) {
		return record{}, 0, errTorn
	}
	return record{seq: binary.BigEndian.Uint64(body[1:]), source: string(body[recordFixed:end]), payload: body[end:]}, size, nil
}
