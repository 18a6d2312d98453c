package api

import (
	"bytes"
	"encoding/pem"
	"testing"
)

func FuzzParseCSR(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, s string) {
		der, err := parseCSR(s)
		if err != nil {
			return
		}
		again, err := parseCSR(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
		if err != nil || !bytes.Equal(der, again) {
			t.Errorf("%x became %x, %v", der, again, err)
		}
	})
}
