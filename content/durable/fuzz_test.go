package durable

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzUnseal(f *testing.F) {
	f.Add(Seal([]byte("{\n  \"version\": 1\n}")))
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(sealMark))
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := Unseal(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("Unseal = %v, want ErrDamaged", err)
			}
			return
		}
		if bytes.Contains(data, []byte(sealMark)) {
			if again, err := Unseal(Seal(object)); err != nil || !bytes.Equal(again, object) {
				t.Errorf("%q is sealed again and read as %q, %v", object, again, err)
			}
		}
	})
}
