package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// ErrDamaged says that a sealed file no longer has the bytes that were written.
var ErrDamaged = errors.New("its bytes have changed since it was written")

// sealMark begins the seal, the last field of a JSON object.
const sealMark = `,"sum":"`

// Seal adds to a JSON object that has fields a last one, "sum", with the SHA-256 of the object without it.
func Seal(object []byte) []byte {
	object = bytes.TrimSpace(object)
	sum := sha256.Sum256(object)
	sealed := append([]byte(nil), object[:len(object)-1]...)
	return append(sealed, sealMark+hex.EncodeToString(sum[:])+"\"}\n"...)
}

// Unseal gives the object back. ErrDamaged if the sum is another; what has no sum is given as it is.
func Unseal(data []byte) ([]byte, error) {
	i := bytes.LastIndex(data, []byte(sealMark))
	if i < 0 {
		return data, nil
	}
	object := append(append([]byte(nil), data[:i]...), '}')
	sum := sha256.Sum256(object)
	if string(bytes.TrimSpace(data[i+len(sealMark):])) != hex.EncodeToString(sum[:])+`"}` {
		return nil, ErrDamaged
	}
	return object, nil
}
